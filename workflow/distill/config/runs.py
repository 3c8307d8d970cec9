"""What the config sections of all methods' runs share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from distill.config.base import Section
from distill.config.training import Training

if TYPE_CHECKING:
    from distill.study.study import Study

_START = "Where training starts: base, phase1, or another run of the same student, by its name."
FROM_BASE = Field("base", description=_START)
DROPOUT = Field(True, description="Train with the model's own dropout rates (true) or without dropout (false).")


class Run(Section):
    """A compared run. Each method has a section of its own, which adds the method's options to these keys.

    Attributes:
        is_control: runs of methods that are none are judged against it, and every system is compared with it.
    """

    is_control: ClassVar[bool] = False

    method: str = Field(description="The method: the name of its folder, or of a plugin's file.")
    start: str = Field("phase1", description=_START)
    select: str = Field(
        "dev_rouge_l",
        description="Checkpoint rule: dev_loss (lowest dev loss), dev_METRIC (best score of dev answers by a metric, "
        "such as dev_rouge_l) or last; for the first two a start that is no base is a candidate, too.",
    )
    dropout: bool = DROPOUT
    training: Training = Field(description="The optimiser's recipe.")

    @property
    def needs(self) -> frozenset[str]:
        """What the run reads besides the instruction data and its start model: names of `distill.methods.needs`."""
        return frozenset()

    @property
    def modules(self) -> tuple[str, ...]:
        """Dotted names of what training loads by name besides the method; their code is in the run's digest."""
        return ()

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields what does not fit the rest of the study, each as `key: expected ..., found ...; what to do`."""
        if "plain_text" in self.needs and study.data.plain_text is None:
            yield "plain_text_weight: expected 0 since data.plain_text is null; set it to 0 or name a data.plain_text"
