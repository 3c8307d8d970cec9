"""Measures what each selected model costs to run, one after another by one engine on this machine."""

import platform

from distill.config.slices.measure_efficiency import MeasureEfficiency
from distill.evaluation.efficiency import MEASURED
from distill.files import write_jsonl
from distill.provenance.record import cpu_name
from distill.provenance.stage import Job, run_stage


def measure_efficiency(job: Job) -> None:
    """Writes measured.jsonl: a row a system."""
    from distill.data.tokens import encode_example, load_tokenizer
    from distill.records import read_examples
    from distill.sampling.measuring import Load, measure_models
    from distill.sampling.protocol import Request
    from distill.sampling.settings import engine_settings

    settings: MeasureEfficiency = job.settings
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    examples = read_examples(job.input("dataset") / "examples.jsonl")[: settings.prompts]
    encoded = [encode_example(tokenizer, settings.wrapper, example, eos_id) for example in examples]
    requests = [Request(example.id, example.prompt_ids, settings.seed) for example in encoded]
    longest = max(len(request.prompt_ids) for request in requests) + settings.max_new_tokens
    options = engine_settings(settings.sampling, longest)
    load = Load(requests, settings.decoding, settings.max_new_tokens)
    asked = {name: job.digest(name) for name in ("dataset", "tokenizer")}
    state = job.state(settings=settings.model_dump(mode="json"), machine=platform.node(), **asked)
    job.spent.append(state)
    rows = measure_models(job.inputs["models"], options, load, state, cpu_name() or "a CPU")
    write_jsonl(job.output / MEASURED, rows)
    job.notes |= {"models": len({row["measured"] for row in rows}), "prompts": len(requests)}


if __name__ == "__main__":
    run_stage(measure_efficiency, __doc__, inputs=("models", "dataset", "tokenizer"), settings=MeasureEfficiency)
