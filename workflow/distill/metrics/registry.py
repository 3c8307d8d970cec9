"""Finds metrics by name: the metric NAME is the file NAME.py of this room that has a `METRIC`.

A metric scores one answer by its text and the valid ones, so that a reward can call it, too. Its file imports nothing
heavy. The first paragraph of the file's docstring says what it measures, as captions print it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from statistics import fmean

import distill.metrics
from distill.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """How good one answer is.

    Attributes:
        title: its name in tables and figures.
        score: from an answer and its valid answers, of which there is at least one; 0 to 100, more is better.
        hub: its name among the metrics of the Hugging Face Hub; by default the file's.
        caption: what it measures: the first paragraph of its file's docstring.
        needs_end: whether an answer that was cut scores 0 whatever it says.
        reads: whether a letter counts; by default every one.
        any_script: the metric that counts the same way and reads the letters of every script; empty for none.
        as_answer: an answer that says what a reference does; by default the reference itself.
    """

    title: str
    score: Callable[[str, Sequence[str]], float]
    hub: str = ""
    caption: str = ""
    needs_end: bool = False
    reads: Callable[[str], bool] = lambda letter: True
    any_script: str = ""
    as_answer: Callable[[str], str] = str

    def of(self, answer: str, references: Sequence[str], is_finished: bool) -> float:
        """Returns the score of an answer that ended by itself, or was cut: what evaluation and rewards call."""
        return 0.0 if self.needs_end and not is_finished else self.score(answer, references)

    def share_read(self, texts: Iterable[str]) -> float:
        """Returns the share of the texts' letters that count, 0 to 1; 1 where there is none."""
        letters = (sign for text in texts for sign in text if sign.isalpha())
        return fmean(read) if (read := [self.reads(letter) for letter in letters]) else 1.0

    def scores_itself(self, reference: str) -> bool:
        """Returns whether an answer that says what a reference does scores above 0 against it."""
        return self.score(self.as_answer(reference), [reference]) > 0


def metric_module(name: str) -> str:
    """Returns the dotted name of a metric's module; the digest of the code of what scores by it includes it."""
    return f"{distill.metrics.__name__}.{name}"


@cache
def metric_names() -> tuple[str, ...]:
    """Returns the names of all metrics; the room's other files have no METRIC."""
    names = sorted(module.name for module in iter_modules(distill.metrics.__path__))
    return tuple(name for name in names if hasattr(import_module(metric_module(name)), "METRIC"))


@cache
def load_metric(name: str) -> Metric:
    """Returns a metric, of whose file alone anything is imported.

    Raises:
        ConfigError: there is none of that name.
    """
    path = metric_module(name)
    metric = getattr(import_module(path), "METRIC", None) if find_spec(path) else None
    if metric is None:
        known = ", ".join(metric_names())
        raise ConfigError(f"metric: expected one of {known}, found {name!r}; correct the name")
    words = import_module(path).__doc__ or ""
    return replace(metric, hub=metric.hub or name, caption=" ".join(words.partition("\n\n")[0].split()))
