"""Measures what each selected model costs to run, one after another by one engine on this machine."""

import platform
from math import prod
from pathlib import Path

from distill.checkpoints import SELECTION
from distill.config.slices.measure_efficiency import MeasureEfficiency
from distill.evaluation.efficiency import MEASURED
from distill.files import digest_value, read_json, read_manifest, write_json, write_jsonl
from distill.progress import Progress
from distill.provenance.record import cpu_name
from distill.provenance.stage import Job, run_stage


def measure_efficiency(job: Job) -> None:
    """Writes measured.jsonl: a row a system; systems with one model, as of a run that kept its start, share its
    figures.
    """
    from distill.data.tokens import encode_example, load_tokenizer
    from distill.models.folders import read_tensor_shapes
    from distill.records import read_examples
    from distill.sampling.measuring import Load, measure_apart
    from distill.sampling.protocol import Request
    from distill.sampling.settings import engine_settings
    from distill.sealed_files import is_sealed, seal_file
    from distill.stopping import check

    settings: MeasureEfficiency = job.settings
    tokenizer, eos_id = load_tokenizer(job.input("tokenizer"))
    examples = read_examples(job.input("dataset") / "examples.jsonl")[: settings.prompts]
    encoded = [encode_example(tokenizer, settings.wrapper, example, eos_id) for example in examples]
    requests = [Request(example.id, example.prompt_ids, settings.seed) for example in encoded]
    longest = max(len(request.prompt_ids) for request in requests) + settings.max_new_tokens
    options = engine_settings(settings.sampling, longest)
    asked = {name: job.digest(name) for name in ("dataset", "tokenizer")}
    state = job.state(settings=settings.model_dump(mode="json"), machine=platform.node(), **asked)
    job.spent.append(state)
    files = {
        folder: {name: entry for name, entry in read_manifest(folder).items() if name != SELECTION}
        for folder in job.inputs["models"]
    }
    models = {folder: digest_value(own)[:24] for folder, own in files.items()}
    first: dict[str, Path] = {}
    for folder, model in models.items():
        first.setdefault(model, folder)
    load = Load(requests, settings.decoding, settings.max_new_tokens)
    Progress.monitor_interval = 0  # no thread, since this process forks
    for model, folder in Progress(first.items(), unit="model"):
        path = state / f"{model}.json"
        if not is_sealed(path):
            write_json(path, measure_apart(folder, options, load))
            seal_file(path)
        check()
    rows = []
    for folder, model in models.items():
        row = read_json(state / f"{model}.json")
        gpu = row.pop("gpu")
        devices = options.tensor_parallel * (1 if gpu else options.threads)
        machine = f"{devices} x {gpu}" if gpu else f"{devices} thread{'s' * (devices > 1)} of {cpu_name() or 'a CPU'}"
        rows.append(
            {
                "system": folder.name,
                "measured": first[model].name,
                "parameters": sum(prod(shape) for shape in read_tensor_shapes(folder).values()),
                "disk_bytes": sum(entry["size"] for entry in files[folder].values()),
                "engine": f"{options.engine}, {options.dtype}",
                "machine": machine,
                "prompts": len(requests),
                **row,
            }
        )
    write_jsonl(job.output / MEASURED, rows)
    job.notes |= {"models": len(first), "prompts": len(requests)}


if __name__ == "__main__":
    run_stage(measure_efficiency, __doc__, inputs=("models", "dataset", "tokenizer"), settings=MeasureEfficiency)
