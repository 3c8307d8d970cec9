import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.data.plain_text import make_chunks, read_chunks, read_separately, split_documents
from distill.errors import DataError
from distill.files import write_jsonl
from distill.training.plain_text import Pretraining
from states import as_states

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


def test_documents_apart_are_whole_up_to_the_length(tokenizer, tmp_path):
    write_jsonl(tmp_path / "documents.jsonl", [{"text": text} for text in ("a\n\nb", "c", "a b c d")])
    assert [ids.tolist() for ids in read_separately(tmp_path, tokenizer, EOS, 4)] == [
        [1, 0, 2, EOS],
        [3, EOS],
        [1, 2, 3, 4],
    ]


def test_pretraining_predicts_each_sequence_from_its_own_beginning():
    sequences = [np.array(ids, np.int32) for ids in ([1, 2, EOS], [3, 4], [1, 2, 3, EOS])]
    task, seen = Pretraining(sequences, "cpu"), []

    def forward(batch):
        seen.append(batch)
        return as_states(torch.zeros(len(batch.rows), 10))

    terms = task.losses(forward, [2, 1], 0)["plain_text"]
    assert seen[0].sequence_lengths == (4, 2) and seen[0].actions.tolist() == [2, 3, EOS, 4]
    assert terms.weight.item() == 4 == task.weights([2, 1], 0)["plain_text"]
    assert terms.mean.item() == pytest.approx(np.log(10))


def test_text_is_split_at_blank_lines():
    assert split_documents("\n one\ntwo \n \n\nthree\n") == ["one\ntwo", "three"]
