import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.data.plain_text import make_chunks, read_chunks, split_documents
from distill.errors import DataError
from distill.files import write_jsonl

EOS = 9


@pytest.fixture
def tokenizer():
    """One id a word, and one for a newline."""
    vocabulary = {"\n": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    return tokenizer


def test_documents_end_with_eos_and_newline_runs_are_one(tokenizer):
    chunks = make_chunks(["a b\n\n\nc", "d", "a b c d a"], tokenizer, EOS, 4)
    assert chunks.dtype == np.int32
    assert chunks.tolist() == [[1, 2, 0, 3], [EOS, 4, EOS, 1], [2, 3, 4, 1]]


def test_the_rest_that_fills_no_chunk_is_left_out(tokenizer):
    assert make_chunks(["a b c"], tokenizer, EOS, 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("documents", [[], ["a b"]])
def test_less_than_one_chunk_is_an_error(tokenizer, documents):
    with pytest.raises(DataError, match=r"data\.plain_text: expected at least one chunk .* = 4 .*lower"):
        make_chunks(documents, tokenizer, EOS, 4)


def test_read_chunks_reads_a_gathered_folder(tokenizer, tmp_path):
    write_jsonl(tmp_path / "documents.jsonl", [{"text": "a"}, {"text": "b"}])
    assert read_chunks(tmp_path, tokenizer, EOS, 2).tolist() == [[1, EOS], [2, EOS]]


def test_text_is_split_at_blank_lines():
    assert split_documents("\n one\ntwo \n \n\nthree\n") == ["one\ntwo", "three"]
