"""What artifacts are and how numbers and lines are written, in plain words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from distill.audit.archive import Archive, Artifact, Dependency


def count(number: int, noun: str) -> str:
    """Returns a number with its noun, e.g. `1 seed`, `3,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[Any], most: int = 8) -> str:
    """Returns names as a list that is cut where it is long."""
    names = [str(name) for name in names]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def ranges(numbers: Sequence[int], most: int = 6) -> str:
    """Returns line numbers as ranges, e.g. `1-300, 302`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return listed((str(first) if first == last else f"{first}-{last}" for first, last in runs), most)


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by their dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    return {
        dotted: leaf
        for name, part in value.items()
        for dotted, leaf in flat(part, f"{key}.{name}" if key else str(name)).items()
    }


def seconds(artifact: Artifact) -> float:
    """Returns how long the last try of a step took."""
    return (datetime.fromisoformat(artifact.finished) - datetime.fromisoformat(artifact.started)).total_seconds()


def duration(value: float) -> str:
    """Returns seconds as a person says them."""
    if value < 60:
        return f"{value:.3g} s"
    return f"{value // 60:.0f} min {value % 60:.0f} s" if value < 3600 else f"{value / 3600:.1f} h"


def decoding(settings: Mapping[str, Any]) -> str:
    """Returns a decoding's settings."""
    return f"temperature {settings['temperature']:g}, top-p {settings['top_p']:g}"


def pinned(dependency: Dependency) -> str:
    """Returns an input from outside with its digest."""
    return f"{dependency.uri} (sha256 {dependency.sha256[:12]})"


def source(settings: Mapping[str, Any], files: Sequence[Dependency]) -> str:
    """Returns where rows come from: a generator, a local file, or the hub at a pinned revision."""
    if settings["kind"] == "world":
        return f"{settings['rows']:,} rows of the embedded world's generator"
    if settings["kind"] == "sums":
        worked = (
            f", {settings['worked_share']:.0%} of the answers after `=` worked out"
            if settings.get("worked_share")
            else ""
        )
        return f"{settings['rows']:,} rows of the generator of sums of {settings['digits']} digits{worked}"
    if settings["kind"] == "hub":
        return f"hub dataset {settings['repository']} at revision {settings['revision']}, split {settings['split']}"
    return f"file {listed(map(pinned, files))}"


def base(model: Mapping[str, Any], files: Sequence[Dependency]) -> str:
    """Returns what a base model is: a hub revision, a local folder, a pruned teacher, or new."""
    kind = model["kind"]
    if kind == "hub":
        return f"hub model {model['repository']} at revision {model['revision']}"
    if kind == "folder":
        return f"local model {listed(map(pinned, files))}"
    if kind == "pruned":
        return f"the teacher's base without layers {listed(model['drop_layers'])}"
    shape = f"{count(model['layers'], 'layer')} of width {model['hidden_size']}"
    return f"new {model['architecture']} of {shape}, pretrained for {count(model['pretraining']['steps'], 'update')}"


def _train_run(artifact: Artifact, inputs: list[Dependency]) -> str:
    run, notes = artifact.settings["run"], artifact.notes
    start = next((entry.uri for entry in inputs if entry.name == "start"), "?")
    batches = f"{count(notes['updates'], 'update')} of {run['training']['batch']}" if "updates" in notes else "training"
    items = f" over {count(notes['items'], 'item')}" if "items" in notes else ""
    return f"{run['method']} from {start}: {batches}{items}, seed {artifact.settings['seed']}"


def _select(artifact: Artifact, inputs: list[Dependency]) -> str:
    chosen = f": update {artifact.notes['update']}" if "update" in artifact.notes else ""
    chosen += ", the start" if artifact.notes.get("keeps_start") else ""
    return f"checkpoint chosen by {artifact.settings['rule']}{chosen}"


def _sampling(artifact: Artifact) -> str:
    sampling = artifact.settings["sampling"]
    return f"{sampling['engine']} on {sampling['device']}, {sampling['dtype']}"


def _pairs_of(artifact: Artifact) -> list[str]:
    return [f"{part} {own['pairs']}" for part, own in artifact.notes.items() if isinstance(own, Mapping)]


def _files(inputs: list[Dependency]) -> list[Dependency]:
    return [entry for entry in inputs if not entry.is_inside]


def _adopt_model(artifact: Artifact, inputs: list[Dependency]) -> str:
    outside = _files(inputs)
    return f"model from outside: {listed(map(pinned, outside))}" if outside else "the student's base as it is"


WORDS: dict[str, Callable[[Artifact, list[Dependency]], str]] = {
    "gather_source": lambda artifact, inputs: (
        f"{source(artifact.settings['source'], _files(inputs))}, seed {artifact.settings['seed']}"
    ),
    "make_tokenizer": lambda artifact, inputs: (
        f"tokenizer of {base(artifact.settings['model'], _files(inputs))}"
        if artifact.settings["model"]
        else f"tokenizer of {artifact.settings['vocabulary_size']} tokens trained on the study's texts"
    ),
    "split_data": lambda artifact, inputs: (
        f"cut with seed {artifact.settings['split_seed']}: "
        f"{listed(f'{part} {artifact.notes[part]}' for part in ('train', 'dev', 'test') if part in artifact.notes)}"
    ),
    "prepare_evaluation": lambda artifact, inputs: (
        f"{count(artifact.notes.get('kept', 0), 'prompt')}, none of which train "
        f"{'has' if artifact.settings['name'] == 'dev' else 'or dev has'}"
    ),
    "make_pairs": lambda artifact, inputs: f"preference pairs: {listed(_pairs_of(artifact))}",
    "make_base": lambda artifact, inputs: (
        f"{base(artifact.settings['model'], _files(inputs))}, seed {artifact.settings['seed']}"
    ),
    "check_models": lambda artifact, inputs: f"the vocabulary of {artifact.path.name}, as the tokenizer has it",
    "train_run": _train_run,
    "validate_run": lambda artifact, inputs: f"every candidate's answers to dev, seed {artifact.settings['dev_seed']}",
    "select_checkpoint": _select,
    "adopt_model": _adopt_model,
    "sample_teacher": lambda artifact, inputs: (
        f"{artifact.settings['per_prompt']} samples a prompt, {decoding(artifact.settings)}, "
        f"seed {artifact.settings['seed']}, {_sampling(artifact)}"
    ),
    "gather_samples": lambda artifact, inputs: f"{count(artifact.notes.get('samples', 0), 'teacher sample')}",
    "ask_teacher": lambda artifact, inputs: (
        f"{count(artifact.notes.get('samples', 0), 'text')} of {artifact.settings['teacher']['model']} at "
        f"{artifact.settings['teacher']['base_url']}, {decoding(artifact.settings)}, seed {artifact.settings['seed']}"
    ),
    "adopt_samples": lambda artifact, inputs: (
        f"samples from outside: {listed(map(pinned, _files(inputs)))}"
        if artifact.notes.get("external")
        else f"{count(artifact.notes.get('samples', 0), 'teacher sample')}, of its texts"
    ),
    "build_candidates": lambda artifact, inputs: f"the teacher's top-p sets up to p = {artifact.settings['p_max']}",
    "build_values": lambda artifact, inputs: (
        f"the preference teacher's values, {artifact.settings['scale']:g} log sum p^{artifact.settings['exponent']:g}"
    ),
    "rank_pairs": lambda artifact, inputs: (
        f"{artifact.notes.get('right', '?')} of {count(artifact.notes.get('pairs', 0), 'pair')} ranked rightly"
    ),
    "generate_responses": lambda artifact, inputs: (
        f"{count(artifact.notes.get('answers', 0), 'answer')}, seeds {listed(artifact.settings['seeds'])}, "
        f"{_sampling(artifact)}"
    ),
    "measure_efficiency": lambda artifact, inputs: (
        f"what {count(artifact.notes.get('models', 0), 'selected model')} cost to run, {_sampling(artifact)}"
    ),
    "score_responses": lambda artifact, inputs: (
        f"{listed(dict.fromkeys(artifact.settings.get('metrics', {}).values()))} and the like, by seed and by prompt"
    ),
    "judge_pair": lambda artifact, inputs: (
        f"{' against '.join(artifact.settings['pair'])}, judge: {artifact.notes.get('judge', '?')}"
    ),
    "make_tables": lambda artifact, inputs: "every number of the study",
    "render_tables": lambda artifact, inputs: "the tables as a page",
    "draw_figures": lambda artifact, inputs: "the figures",
    "render_report": lambda artifact, inputs: "tables, figures and answers as one page",
}
"""One line on an artifact by its rule."""


def describe(archive: Archive, artifact: Artifact) -> str:
    """Returns one line that says what an artifact is."""
    made = f"made by {artifact.rule}"
    words = WORDS.get(artifact.rule, lambda artifact, inputs: made)
    try:
        return words(artifact, archive.inputs(artifact))
    except (LookupError, TypeError, ValueError, AttributeError):
        return f"{made}, with settings of another version"
