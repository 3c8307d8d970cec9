"""What a metric can read of a set's references: a warning where it is less than half, an error where it is nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.errors import DataError
from distill.metrics.registry import load_metric

_CHARACTERS = 40
"""Of a reference that a line quotes."""


@dataclass(frozen=True)
class ScoredSet:
    """A set whose answers a key of the config has scored by a metric.

    Attributes:
        dataset: the set's name.
        metric: the metric's name.
        key: the key of the config.
        prefix: what the key's value has before the metric's name.
    """

    dataset: str
    metric: str
    key: str
    prefix: str = ""

    @property
    def _advice(self) -> str:
        other = load_metric(self.metric).any_script
        return f"set it to {self.prefix}{other}" if other else "choose another metric"

    def warning(self, references: Sequence[str]) -> str | None:
        """Returns a line where more than half of the letters in the references count for nothing; else None."""
        metric = load_metric(self.metric)
        if (share := metric.share_read(references)) >= 0.5:
            return None
        lost = min(references, key=lambda reference: metric.share_read([reference]))
        return (
            f"{self.key}: {self.metric} reads {share:.0%} of the letters in the references of {self.dataset}, such as "
            f"{lost[:_CHARACTERS]!r}; {self._advice}"
        )

    def check(self, references: Sequence[str]) -> None:
        """Refuses a metric by which nothing can be chosen, and prints the warning.

        Raises:
            DataError: every reference scores 0 against itself.
        """
        if not any(map(load_metric(self.metric).scores_itself, references)):
            raise DataError(
                f"{self.key}: expected a metric by which a reference of {self.dataset} scores above 0 against itself, "
                f"found {self.metric} with 0 for all {len(references)}, such as {references[0][:_CHARACTERS]!r}; "
                f"{self._advice}"
            )
        if line := self.warning(references):
            print(line, flush=True)
