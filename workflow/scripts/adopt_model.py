"""Checks and adopts a model in place of a training stage: one from outside, or a base that is evaluated as it is."""

from distill.config.external import External
from distill.config.slices.adopt_model import AdoptModel
from distill.data.chat_template import make_usable
from distill.data.model_card import write_model_card
from distill.models.external import copy_external_model
from distill.provenance.stage import Job, run_stage


def adopt_model(job: Job) -> None:
    """Writes the model folder with the study's tokenizer, and how it is asked."""
    settings: AdoptModel = job.settings
    copy_external_model(job.input("model"), job.input("tokenizer"), job.output)
    make_usable(job.output, settings.wrapper, settings.max_new_tokens)
    if settings.name in External.model_fields:
        job.notes |= {"external": True, "key": f"external.{settings.name}"}


if __name__ == "__main__":
    run_stage(
        adopt_model,
        __doc__,
        inputs=("model", "tokenizer"),
        settings=AdoptModel,
        external=("model",),
        beside=write_model_card,
    )
