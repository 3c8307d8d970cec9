"""Makes a base model: from the hub, a folder or a GGUF file, by pruning the teacher's, or new and pretrained."""

from distill.config.base_models import ScratchModel
from distill.config.slices.make_base import MakeBase
from distill.provenance.hub import hub_note
from distill.provenance.stage import Job, run_stage
from distill.startup import starting


def make_base(job: Job) -> None:
    """Writes the base model of one role as a Hugging Face folder."""
    with starting():
        from distill.models.bases import build_base
        from distill.models.load import save_model

    settings: MakeBase = job.settings
    tokenizer = job.input("tokenizer")
    model = build_base(
        settings.model,
        tokenizer,
        vocabulary_size=settings.vocabulary_size,
        seed=settings.seed,
        teacher_base=job.optional_input("teacher_base"),
    )
    if isinstance(settings.model, ScratchModel):
        with starting():
            from distill.training.pretraining import pretrain

        state = job.state(settings=settings.model_dump(), inputs=job.digests)
        own = job.save_every_minutes, job.tracker
        job.notes |= pretrain(model, settings, tokenizer, job.input("plain_text"), state, job.output, *own)
        job.spent.append(state)
    else:
        save_model(model, tokenizer, job.output)
        job.notes |= {"parameters": model.num_parameters(), **hub_note("model", settings.model)}


if __name__ == "__main__":
    run_stage(make_base, __doc__, inputs=("tokenizer", "plain_text", "teacher_base", "file"), settings=MakeBase)
