"""How long texts are before one is read: expected tokens of prompts, responses and sampled answers, and kept rows."""

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True)
class LogNormal:
    """A length whose logarithm is normal: its median, and the standard deviation of the logarithm.

    A spread of 0 is a fixed length.
    """

    median: float
    spread: float

    def share_below(self, limit: float) -> float:
        """Returns the share of lengths up to a limit."""
        if self.spread == 0:
            return float(self.median <= limit)
        return _NORMAL.cdf(math.log(limit / self.median) / self.spread)

    def _sum_below(self, limit: float) -> float:
        """Returns E[X; X <= limit]."""
        if self.spread == 0:
            return self.median * (self.median <= limit)
        inside = _NORMAL.cdf(math.log(limit / self.median) / self.spread - self.spread)
        return self.median * math.exp(self.spread**2 / 2) * inside

    def mean_below(self, limit: float) -> float:
        """Returns the mean of the lengths up to a limit, where longer rows are dropped; the limit if there is none."""
        share = self.share_below(limit)
        return self._sum_below(limit) / share if share > 0 else limit

    def mean_cut(self, limit: float) -> float:
        """Returns the mean of lengths that are cut at a limit."""
        return self._sum_below(limit) + limit * (1 - self.share_below(limit))


@dataclass(frozen=True)
class Texts:
    """Lengths of one kind of data, in tokens.

    `counted`: False where they are the config's limits, since nothing is known of the data.
    """

    prompt: LogNormal
    response: LogNormal
    counted: bool = True


WORLD = Texts(LogNormal(23, 0), LogNormal(13.4, 0))
"""The embedded world under the wrapper short and its own tokenizer: means of the embedded study."""
SUMS = Texts(LogNormal(8, 0), LogNormal(21, 0))
"""Four digits: `8+0+0+2=` and the answer worked out, with its end."""
DOLLY = Texts(LogNormal(55, 0.65), LogNormal(50, 0.95))
"""Dolly in MiniLLM's wrapper. Within 256 and 512 tokens a mean of 66 + 72 (counted with GPT-2's tokenizer: 70 + 69)."""


def limits(prompt: int, total: int) -> Texts:
    """Returns the longest texts that the config allows, for data of which nothing is known: an upper bound."""
    return Texts(LogNormal(min(prompt, total / 2), 0), LogNormal(total - min(prompt, total / 2), 0), counted=False)
