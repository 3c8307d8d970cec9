"""Share of the embedded world's concepts named in an answer that one of its references names too, in percent.

The references together are taken for the whole truth. Which of a concept's words stands for it does not count, nor how
often.
"""

from collections.abc import Sequence

from distill.concepts import named_concepts
from distill.metrics.registry import Metric


def concept_share(prediction: str, references: Sequence[str]) -> float:
    """Returns the share of right concepts among those named, 0 to 100; 0 where an answer names none."""
    named, right = named_concepts(prediction), set().union(*map(named_concepts, references))
    return 100 * len(named & right) / len(named) if named else 0.0


METRIC = Metric(title="Right concepts", score=concept_share)
