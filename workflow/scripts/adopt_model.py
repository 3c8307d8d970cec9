"""Checks and adopts a model in place of a training stage: one from outside, or a base that is evaluated as it is."""

from distill.config.external import External
from distill.config.slices.adopt_model import AdoptModel
from distill.models.external import copy_external_model
from distill.provenance.stage import Job, run_stage


def adopt_model(job: Job) -> None:
    """Writes the model folder with the study's tokenizer."""
    copy_external_model(job.input("model"), job.input("tokenizer"), job.output)
    if job.settings.name in External.model_fields:
        job.notes |= {"external": True, "key": f"external.{job.settings.name}"}


if __name__ == "__main__":
    run_stage(adopt_model, __doc__, inputs=("model", "tokenizer"), settings=AdoptModel, external=("model",))
