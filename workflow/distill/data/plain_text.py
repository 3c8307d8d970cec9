"""Plain text for the language-modelling term L_PT and for pretraining: documents, and chunks of equal length."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from distill.data.tokens import encode_text
from distill.errors import DataError
from distill.files import read_jsonl


def split_documents(text: str) -> list[str]:
    """Returns the documents of a plain text: the blocks of lines between blank lines, in order."""
    return [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]


def encode_documents(documents: Iterable[str], tokenizer: Tokenizer, eos_id: int) -> Iterator[np.ndarray]:
    """Yields the int32 ids of each document with EOS behind it.

    Runs of newlines are collapsed to one first, as in MiniLLM's processing of OpenWebText.
    """
    for document in documents:
        yield np.array([*encode_text(tokenizer, re.sub(r"\n+", "\n", document)), eos_id], np.int32)


def make_chunks(documents: Iterable[str], tokenizer: Tokenizer, eos_id: int, tokens: int) -> np.ndarray:
    """Returns int32 ids [chunks, tokens]: the documents of `encode_documents`, joined and cut; the rest is left out.

    Args:
        documents: the texts, in order.
        tokenizer: of the study.
        eos_id: its EOS.
        tokens: length of a chunk (data.plain_text_tokens; paper: 512).

    Raises:
        DataError: the documents do not fill one chunk.
    """
    pieces = [np.empty(0, np.int32), *encode_documents(documents, tokenizer, eos_id)]
    joined = np.concatenate(pieces)
    chunks = len(joined) // tokens
    if chunks == 0:
        raise DataError(
            f"data.plain_text: expected at least one chunk of data.plain_text_tokens = {tokens} tokens, found "
            f"{len(joined)} tokens in {len(pieces) - 1} documents; add documents or lower data.plain_text_tokens"
        )
    return joined[: chunks * tokens].reshape(chunks, tokens)


def read_documents(folder: Path | str) -> Iterator[str]:
    """Yields the documents of a gathered plain-text folder, in order."""
    return (row["text"] for _, row in read_jsonl(Path(folder) / "documents.jsonl"))


def read_chunks(folder: Path | str, tokenizer: Tokenizer, eos_id: int, tokens: int) -> np.ndarray:
    """Returns the chunks of a gathered plain-text folder, int32 [chunks, tokens]; see `make_chunks`."""
    return make_chunks(read_documents(folder), tokenizer, eos_id, tokens)


def read_separately(folder: Path | str, tokenizer: Tokenizer, eos_id: int, tokens: int) -> list[np.ndarray]:
    """Returns the documents of a gathered plain-text folder as of `encode_documents`, each cut behind `tokens` ids."""
    return [ids[:tokens] for ids in encode_documents(read_documents(folder), tokenizer, eos_id)]
