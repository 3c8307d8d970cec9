"""Hidden states with their output matrix, and losses formed on them chunk by chunk.

Logits exist for one chunk of states at a time, and turn into their own gradient in place: nothing of size
states x vocabulary is kept. Logits and gradients of half-precision states are formed in float32, never rounded to the
states' type in between.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill.errors import DataError

CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**26}
"""Logits formed at once by device, 32 and 256 MiB in float32; more where `CHUNK_STATES` states have more."""
CHUNK_STATES = 104
"""States formed at once whatever the vocabulary, since matrix products of fewer rows lose speed."""

_PART = {"cpu": 2**20, "cuda": 2**25}
"""Elements by device of a half-precision output matrix that are worked on at once, 4 and 128 MiB in float32."""
_ROW_ALIGNMENT = 64
_ARGMAX_BLOCK = 128


@dataclass(frozen=True)
class States:
    """N hidden states and what turns them into logits.

    `hidden`: [N, width]. `weight`: output embeddings, [vocabulary or more, width]; further rows name no token.
    `chunk_logits`: logits that may exist at once; None for the default of the device. No loss depends on it.
    """

    hidden: Tensor
    weight: Tensor
    vocabulary: int
    chunk_logits: int | None = None

    @property
    def logits_at_once(self) -> int:
        """How many logits may exist at once."""
        return self.chunk_logits or max(CHUNK_LOGITS[self.hidden.device.type], CHUNK_STATES * self.vocabulary)

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self.hidden)

    def __getitem__(self, rows: slice | Tensor) -> "States":
        """Select states by slice or index."""
        return replace(self, hidden=self.hidden[rows])

    def detach(self) -> "States":
        """Return the same states without gradient."""
        return replace(self, hidden=self.hidden.detach(), weight=self.weight.detach())

    def logits(self) -> Tensor:
        """Return all logits [N, vocabulary], in float32 at least: for a few states, or for tests."""
        return upcast(self.hidden) @ upcast(self.weight[: self.vocabulary]).T

    def chunks(self, group_sizes: Sequence[int] | None = None) -> list[slice]:
        """Cut the states into slices of at most `logits_at_once` logits, one state at least.

        `group_sizes`: numbers of consecutive states that stay together, even where one group is more than a chunk.
        """
        limit = max(1, self.logits_at_once // self.vocabulary)
        if group_sizes is None:
            return [slice(start, min(start + limit, len(self))) for start in range(0, len(self), limit)]
        slices, start, end = [], 0, 0
        for size in group_sizes:
            if end > start and end + size - start > limit:
                slices.append(slice(start, end))
                start = end
            end += size
        return [*slices, slice(start, end)]


class ChunkLogits:
    """The logits of one chunk of states at a time, without gradient, in one piece of memory that is used again.

    `chunk_logits[rows]` is [rows, vocabulary], in float32 at least; may be overwritten, and holds until the next.
    """

    def __init__(self, states: States, chunks: Sequence[slice] | None = None):
        self._states = states.detach()
        longest = max((chunk.stop - chunk.start for chunk in chunks or states.chunks()), default=0)
        # Rows that start at aligned addresses speed a matrix product up by as much as a half.
        width = -(-states.vocabulary // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
        kind = _at_least_float32(states.hidden.dtype)
        self._memory = states.hidden.new_empty(longest, width, dtype=kind)[:, : states.vocabulary]

    def __getitem__(self, rows: slice) -> Tensor:
        """Compute the logits of a chunk."""
        own, head = self._states.hidden[rows], self._states.weight[: self._states.vocabulary]
        logits = self._memory[: len(own)]
        if own.is_cuda and own.dtype != logits.dtype:
            return torch.mm(own, head.T, logits.dtype, out=logits)
        with _bfloat16_operands() if own.dtype == torch.bfloat16 else nullcontext():
            own = upcast(own)
            for tokens in _parts(head):
                torch.mm(own, upcast(head[tokens]).T, out=logits[:, tokens])
        return logits


Objective = Callable[[Tensor, slice, bool], Tensor]
"""(logits [rows, vocabulary], rows, whether a gradient is wanted) -> sum; the gradient replaces the logits in place."""


def chunked_loss(states: States, objective: Objective, chunks: Iterable[slice] | None = None) -> Tensor:
    """Sum an objective over chunks of logits, differentiable in hidden states and weight.

    Three matrix products a chunk with a gradient (logits, and both gradients), one without. `chunks` covers all states
    (default: `states.chunks()`).
    """
    # Asked here, since a function's own forward pass always runs without gradient.
    differentiate = torch.is_grad_enabled() and (states.hidden.requires_grad or states.weight.requires_grad)
    slices = list(chunks or states.chunks())
    return _ChunkedLoss.apply(states.hidden, states.weight, states, objective, slices, differentiate)


def autograd_loss(
    states: States, function: Callable[[Tensor, slice], Tensor], chunks: Iterable[slice] | None = None
) -> Tensor:
    """Sum any differentiable function of (logits [rows, vocabulary], rows) over chunks of logits.

    As `chunked_loss`, with the gradient on a chunk's logits by autograd: slower, and a few chunks in memory.
    """

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        leaf = logits.detach().requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate):
            total = function(leaf, rows)
        if differentiate:
            logits.copy_(torch.autograd.grad(total, leaf)[0])
        return total.detach()

    return chunked_loss(states, objective, chunks)


class _ChunkedLoss(torch.autograd.Function):
    """Forms the gradients beside the loss, since the logits are not there any more when the backward pass comes."""

    @staticmethod
    def forward(ctx, hidden, weight, states: States, objective: Objective, chunks: list[slice], differentiate: bool):
        total, *ctx.gradients = _run(hidden, weight, states, objective, chunks, differentiate)
        ctx.kind = hidden.dtype
        return total

    @staticmethod
    def backward(ctx, outer: Tensor):
        (to_hidden, to_weight), ctx.gradients = ctx.gradients, None  # scaled in place: good for one backward pass
        to_hidden, to_weight = (own.mul_(outer).to(ctx.kind) for own in (to_hidden, to_weight))
        wanted = ctx.needs_input_grad
        return to_hidden if wanted[0] else None, to_weight if wanted[1] else None, None, None, None, None


def _run(
    hidden: Tensor, weight: Tensor, states: States, objective: Objective, chunks: list[slice], differentiate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum an objective, with its gradients on hidden states and weight, float32 at least; empty if none is wanted."""
    head, kind = weight[: states.vocabulary], _at_least_float32(hidden.dtype)
    total = hidden.new_zeros((), dtype=kind)
    to_hidden, to_weight = (
        torch.zeros_like(own, dtype=kind) if differentiate else own.new_empty(0) for own in (hidden, weight)
    )
    logits_of, parts = ChunkLogits(states, chunks), list(_parts(head))
    for chunk in chunks:
        own, logits = hidden[chunk], logits_of[chunk]
        total += objective(logits, chunk, differentiate)
        for tokens in parts if differentiate else ():
            _add_product(to_hidden[chunk], logits[:, tokens], head[tokens])
            _add_product(to_weight[tokens], logits[:, tokens].T, own)
    return total, to_hidden, to_weight


RowFunction = Callable[[Tensor, slice], tuple[Tensor, ...]]
"""(logits [rows, vocabulary], rows) -> tensors whose first axis is rows; may overwrite the logits."""
PullBack = Callable[..., None]
"""(logits, rows, *gradients on the values of these rows): replaces the logits by the gradient on them, in place."""


def chunked_values(states: States, function: RowFunction, pull_back: PullBack) -> tuple[Tensor, ...]:
    """Compute values of each state from its logits, chunk by chunk, differentiable in hidden states and weight.

    For losses that need all states' values before the gradient on any is known; else `chunked_loss` has one matrix
    product fewer, as here the backward pass forms the logits again. Integer values carry no gradient.
    """
    return _ChunkedValues.apply(states.hidden, states.weight, states, function, pull_back)


class _ChunkedValues(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, states: States, function: RowFunction, pull_back: PullBack):
        logits_of = ChunkLogits(states)
        parts = [function(logits_of[chunk], chunk) for chunk in states.chunks()]
        values = tuple(torch.cat(own) for own in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight)
        ctx.pull_back, ctx.cut = pull_back, (states.vocabulary, states.chunk_logits)
        ctx.mark_non_differentiable(*(own for own in values if not own.is_floating_point()))
        return values

    @staticmethod
    def backward(ctx, *outer: Tensor):
        hidden, weight = ctx.saved_tensors
        states = States(hidden, weight, *ctx.cut)

        def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
            ctx.pull_back(logits, rows, *(own[rows] for own in outer))
            return logits.new_zeros(())

        _, *gradients = _run(hidden, weight, states, objective, states.chunks(), True)
        wanted = zip(gradients, ctx.needs_input_grad[:2], strict=True)
        return *(own.to(hidden.dtype) if is_wanted else None for own, is_wanted in wanted), None, None, None


def _parts(head: Tensor) -> Iterator[slice]:
    """Cut the tokens of an output matrix [vocabulary, width] into parts; one where it is float32 at least.

    A float32 copy of a whole half-precision matrix would be the largest tensor of a step, and slow to fill.
    """
    whole = head.dtype == _at_least_float32(head.dtype)
    step = len(head) if whole else max(1, _PART[head.device.type] // head.shape[1])
    return (slice(start, min(start + step, len(head))) for start in range(0, len(head), step))


@contextmanager
def _bfloat16_operands() -> Iterator[None]:
    """Lets a CPU multiply float32 matrices with its bfloat16 instructions: exact where all numbers are bfloat16 ones.

    Sums and results stay float32. Where a CPU has such instructions it takes a third of the time.
    """
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # not in torch's types
    before, setting.fp32_precision = setting.fp32_precision, "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total` in place. `total` and `left`: float32 at least; `right`: may be of half precision."""
    if not right.is_cuda or right.dtype == total.dtype:
        total.addmm_(left, right.to(total.dtype))
        return
    # Tensor cores take both operands in half precision: what the first leaves of a float32, a second one holds.
    first = left.to(right.dtype)
    for operand in (first, (left - first).to(right.dtype)):
        total += torch.mm(operand, right, total.dtype)


def softmax_(logits: Tensor) -> Tensor:
    """Replace logits [rows, vocabulary] by their softmax, in place."""
    whole = _whole_rows(logits)
    torch.softmax(whole, -1, out=whole)
    if not whole.is_cuda:  # on a CPU torch adds up a row's many small terms one by one, some parts in a million off
        whole.div_(whole.sum(-1, keepdim=True))
    return logits


def log_softmax_(logits: Tensor) -> Tensor:
    """Replace logits [rows, vocabulary] by their log softmax, in place."""
    whole = _whole_rows(logits)
    torch.log_softmax(whole, -1, out=whole)
    return logits


def row_products(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of each pair of rows, [rows], without a tensor of their products."""
    if left.is_cuda:
        return torch.bmm(left[:, None], right[:, :, None]).flatten()
    return torch.stack([torch.dot(*pair) for pair in zip(left, right, strict=True)])


def _whole_rows(logits: Tensor) -> Tensor:
    """Return the rows with what aligns them, at no probability: contiguous, which spares torch two copies."""
    if logits.is_contiguous():
        return logits
    whole = logits.as_strided((len(logits), logits.stride(0)), logits.stride())
    whole[:, logits.shape[1] :] = -torch.inf
    return whole


def gather_logits(states: States, rows: Tensor, ids: Tensor) -> Tensor:
    """Compute the logits of single (state, token) pairs: [E] from int64 `rows` and `ids` [E], in float32 at least.

    The work is E x width, whatever the vocabulary; differentiable in hidden states and weight.
    """
    return _GatheredLogits.apply(states.hidden, states.weight, rows, ids, states.logits_at_once)


class _GatheredLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, rows: Tensor, ids: Tensor, limit: int) -> Tensor:
        ctx.save_for_backward(hidden, weight, rows, ids)
        ctx.at_once = max(1, limit // hidden.shape[1])
        parts = zip(rows.split(ctx.at_once), ids.split(ctx.at_once), strict=True)
        return torch.cat([(upcast(hidden[row]) * upcast(weight[token])).sum(-1) for row, token in parts])

    @staticmethod
    def backward(ctx, outer: Tensor):
        hidden, weight, rows, ids = ctx.saved_tensors

        def spread(target: Tensor, places: Tensor, source: Tensor, sources: Tensor) -> Tensor:
            gradient = torch.zeros_like(target, dtype=outer.dtype)
            for place, other, part in zip(*(own.split(ctx.at_once) for own in (places, sources, outer)), strict=True):
                gradient.index_add_(0, place, part[:, None] * source[other])
            return gradient.to(target.dtype)

        wanted = ctx.needs_input_grad
        to_hidden = spread(hidden, rows, weight, ids) if wanted[0] else None
        return to_hidden, spread(weight, ids, hidden, rows) if wanted[1] else None, None, None, None


@torch.no_grad()
def top_tokens(states: States) -> Tensor:
    """Return the token of the largest logit of each state, int64 [N]."""
    logits = ChunkLogits(states)
    return torch.cat([argmax(logits[chunk]) for chunk in states.chunks()])


def argmax(logits: Tensor) -> Tensor:
    """Return the place of each row's maximum, int64 [rows]; the lowest among equals.

    A maximum of blocks first: on a CPU torch's own argmax takes ten times as long as a maximum without its place.
    """
    whole = logits.shape[1] - logits.shape[1] % _ARGMAX_BLOCK
    blocks = logits[:, :whole].unflatten(1, (-1, _ARGMAX_BLOCK))
    maxima = blocks.amax(-1)
    if whole < logits.shape[1]:
        maxima = torch.cat([maxima, logits[:, whole:].amax(-1, keepdim=True)], dim=1)
    first = maxima.argmax(-1)
    places = (first[:, None] * _ARGMAX_BLOCK + torch.arange(_ARGMAX_BLOCK, device=logits.device)).clamp(
        max=logits.shape[1] - 1
    )
    return places.gather(1, logits.gather(1, places).argmax(-1, keepdim=True)).squeeze(1)


def check_shared_vocabulary(states: States, teacher: States) -> None:
    """Raise DataError unless two models' states are as many, over one vocabulary."""
    expected, found = (len(states), states.vocabulary), (len(teacher), teacher.vocabulary)
    if expected != found:
        raise DataError(
            f"teacher states: expected the student's {expected[0]} states over {expected[1]} tokens, found {found[0]} "
            f"over {found[1]}; cut both models to their shared vocabulary"
        )


def check_sets(states: States, sets: Sized) -> None:
    """Raise DataError unless there is one candidate set for each state."""
    if len(sets) != len(states):
        raise DataError(
            f"candidate sets: expected one for each of {len(states)} states, found {len(sets)}; leave out the state "
            "after a response's last token"
        )


@torch.no_grad()
def softmax_entropy(states: States) -> Tensor:
    """Return the entropy of each state's next-token distribution in nats, [N]."""
    logits = ChunkLogits(states)
    return torch.cat([torch.special.entr(softmax_(logits[chunk])).sum(-1) for chunk in states.chunks()])


def upcast(x: Tensor) -> Tensor:
    """Bring half-precision tensors to float32; float32 and float64 stay as they are."""
    return x.to(_at_least_float32(x.dtype))


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
