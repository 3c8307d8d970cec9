"""SFT: cross entropy on the human responses, from the base model or onwards from phase 1."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.config.runs import FROM_BASE, Run

if TYPE_CHECKING:
    from distill.study.study import Study
    from distill.training.context import MethodContext
    from distill.training.imitation import Imitation


class SftRun(Run):
    """Supervised fine-tuning on the instruction data."""

    is_control: ClassVar[bool] = True

    method: Literal["sft"] = Field("sft", description="`sft`: cross entropy on the human responses.")
    start: str = FROM_BASE
    updates_of: str | None = Field(
        None,
        description="Train for as many updates as this run (training.steps and epochs are then ignored).",
    )

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields an `updates_of` whose number of updates is not known before training, too."""
        yield from super().problems(study)
        copied = study.runs.get(self.updates_of) if self.updates_of else None
        if self.updates_of and (copied is None or copied.method == self.method):
            yield f"updates_of: expected the name of a run of another method, found {self.updates_of!r}; name one"
        elif copied and copied.training.steps is None and copied.method != "bd":
            yield (
                f"updates_of: expected a run whose training.steps is given, found {self.updates_of!r}; give its length "
                "in steps"
            )


def build_task(context: "MethodContext") -> "Imitation":
    """Returns the task over the labelled rows of train."""
    from distill.training.imitation import imitation_task, labelled_responses

    return imitation_task(context, labelled_responses(context))
