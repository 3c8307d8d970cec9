"""SFT: cross entropy on the human responses, from the base model or onwards from phase 1."""

from collections.abc import Sequence

import torch

from distill.data.batches import pad_sequences
from distill.data.tokens import Encoded, encode_file, load_tokenizer
from distill.losses.cross_entropy import token_nll
from distill.losses.terms import LossTerms
from distill.methods.context import MethodContext
from distill.training.task import Forward

_DEV_BATCH = 64


class SupervisedFineTuning:
    """Mean over the global batch of -log q(y_t | s_t), response tokens and EOS."""

    coefficients = {"sft": 1.0}

    def __init__(self, train: list[Encoded], dev: list[Encoded], device: torch.device | str):
        self.train, self.dev, self.device, self.items = train, dev, device, len(train)

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the response tokens of a micro-batch."""
        return {"sft": sum(len(self.train[index].response_ids) for index in indices)}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's cross entropy sums."""
        return {"sft": self._nll(forward, [self.train[index] for index in indices])}

    def evaluate(self, forward: Forward) -> tuple[float, list[dict]]:
        """Returns the dev cross entropy in nats a token."""
        terms = [self._nll(forward, self.dev[i : i + _DEV_BATCH]) for i in range(0, len(self.dev), _DEV_BATCH)]
        return sum(term.total.item() for term in terms) / sum(term.weight.item() for term in terms), []

    def _nll(self, forward: Forward, examples: list[Encoded]) -> LossTerms:
        pairs = [(example.prompt_ids, example.response_ids) for example in examples]
        batch = pad_sequences(pairs, self.device, with_final_state=False)
        return token_nll(forward(batch.input_ids, batch.attention_mask, batch.rows), batch.actions)


def build_task(context: MethodContext) -> SupervisedFineTuning:
    """Returns the task over the split's training rows; the dev loss is over the dev set."""
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    train, dev = (
        encode_file(path, tokenizer, context.wrapper, eos_id)
        for path in (context.split / "train.jsonl", context.dev / "examples.jsonl")
    )
    return SupervisedFineTuning(train, dev, context.device)
