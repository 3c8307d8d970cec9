import numpy as np
import pytest
import torch

from distill.models.packing import pack_sequences

PAIRS = [([5, 6, 7], [8, 9]), ([3], [4]), ([2, 2], [1, 5, 6])]


def as_arrays(pairs):
    return [(np.array(prompt, dtype=np.uint16), np.array(response, dtype=np.int32)) for prompt, response in pairs]


@pytest.mark.parametrize("convert", [list, as_arrays])
@pytest.mark.parametrize(
    "with_final_state, rows", [(False, [2, 3, 5, 8, 9, 10]), (True, [2, 3, 4, 5, 6, 8, 9, 10, 11])]
)
def test_sequences_lie_end_to_end_and_rows_predict_the_responses(convert, with_final_state, rows):
    batch = pack_sequences(convert(PAIRS), "cpu", with_final_state)
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 3, 4, 2, 2, 1, 5, 6]
    assert batch.sequence_lengths == (5, 2, 5) and batch.response_lengths == (2, 1, 3)
    assert batch.actions.tolist() == [8, 9, 4, 1, 5, 6]
    assert batch.rows.tolist() == rows
    assert {tensor.dtype for tensor in (batch.input_ids, batch.rows, batch.actions)} == {torch.int64}
    assert {type(length) for length in batch.sequence_lengths + batch.response_lengths} == {int}


def test_the_token_after_each_row_is_the_action():
    generator = np.random.default_rng(0)
    pairs = [[generator.integers(0, 99, generator.integers(1, 30)) for _ in range(2)] for _ in range(40)]
    batch = pack_sequences(pairs, "cpu", with_final_state=False)
    assert torch.equal(batch.input_ids[batch.rows + 1], batch.actions)
    final = pack_sequences(pairs, "cpu", with_final_state=True).rows
    assert sorted({*final.tolist()} - {*batch.rows.tolist()}) == (np.cumsum(batch.sequence_lengths) - 1).tolist()


def test_a_text_without_a_prompt_is_its_first_token_and_the_rest():
    chunk = np.arange(6)
    batch = pack_sequences([(chunk[:1], chunk[1:])] * 2, "cpu", with_final_state=False)
    assert batch.rows.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert batch.actions.tolist() == [1, 2, 3, 4, 5] * 2
