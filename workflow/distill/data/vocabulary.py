"""The study's tokenizer folder: trained on its own texts, or taken from the teacher's base model."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from distill.config.given_models import FolderModel, HubModel
from distill.errors import DataError, ModelError
from distill.files import write_json
from distill.models.locate import locate

EOS = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, folder: Path) -> None:
    """Writes a byte-level BPE tokenizer of exactly `vocabulary_size` entries as a Hugging Face folder.

    Its one special token, `<|endoftext|>` with id 0, is EOS, BOS and padding. The same texts give the same bytes.

    Raises:
        DataError: the texts have too few distinct words for that many entries.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (found := tokenizer.get_vocab_size()) != vocabulary_size:
        raise DataError(
            f"models.vocabulary_size: expected texts that give {vocabulary_size} entries, found {found}; lower it or "
            "add rows to data.instructions or data.plain_text"
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": EOS, "eos_token": EOS, "pad_token": EOS}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})


def copy_tokenizer(model: HubModel | FolderModel, folder: Path) -> None:
    """Writes the tokenizer of a base model (hub, local folder or GGUF file) as a Hugging Face folder.

    Raises:
        ModelError: the model cannot be had, or has no tokenizer that transformers can save as tokenizer.json.
    """
    path = locate(model)
    from transformers import AutoTokenizer  # seconds to import, which neither a trained tokenizer nor an error needs

    options = {"gguf_file": model.gguf_file} if isinstance(model, FolderModel) and model.gguf_file else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, **options)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # whatever a damaged file raises in the library
        raise ModelError(
            f"{path}: expected a tokenizer that transformers reads without code of the folder's, found "
            f"{str(error).partition('. ')[0]}; give the files of a tokenizer that transformers has itself"
        ) from error
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{path}: expected a tokenizer with tokenizer.json, found another kind; add its tokenizer.json"
        )
