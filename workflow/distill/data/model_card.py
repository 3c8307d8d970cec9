"""The card of a model, as the Hugging Face Hub reads it: licences, base and data, how it was made and is asked.

A stage writes one beside each model that it publishes, from the config alone, so that equal configs give equal bytes;
an export tells the same of an archive, with its numbers and digests. The words and licences have their home here.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from distill.checkpoints import SELECTION
from distill.config.slices.published_model import PublishedModel
from distill.data.prompts import WRAPPERS
from distill.files import CARD, canonical_json, read_json, write_text
from distill.markdown import as_text, text_table

LICENCES = {
    "databricks/databricks-dolly-15k": "CC BY-SA 3.0",
    "Skylion007/openwebtext": "CC0 1.0 for the collection; its pages keep their own terms",
    "Qwen/Qwen2.5-0.5B": "Apache 2.0",
    "Qwen/Qwen2.5-1.5B": "Apache 2.0",
    "Qwen/Qwen2.5-3B": "Qwen Research License",
    "HuggingFaceTB/SmolLM2-": "Apache 2.0",
    "openai-community/gpt2": "MIT",
    "facebook/opt-": "OPT-175B License",
}
"""What publishers state of their data and models, by how the repository's name begins."""
OURS = {kind: "made by this workflow's generator" for kind in ("world", "sums")} | {
    "scratch": "trained from nothing by this workflow"
}
UNSTATED = "No licence is stated for the weights themselves; they come from what the table lists."
UNTESTED = "The model was not tested for safety, bias or facts, and is not meant for use outside such a study."
INVENTED = "Data and models are tiny and invented: the numbers carry no claim about any published model."


def _copied(spec: dict[str, Any]) -> list[str]:
    """Returns the names of a local copy, without the place where it lies."""
    return [*filter(None, [PurePosixPath(spec.get("path") or spec["train"]).name, spec.get("gguf_file")])]


def name_of(spec: dict[str, Any]) -> str:
    """Returns what a source or base model of the config is called."""
    if spec["kind"] == "world":
        return "the embedded world"
    if spec["kind"] == "sums":
        return f"sums of {spec['digits']} digits"
    if spec["kind"] == "scratch":
        return f"a new {spec['architecture']} model, layers: {spec['layers']}, width: {spec['hidden_size']}"
    if spec["kind"] == "pruned":
        return f"the teacher's base without layers {', '.join(map(str, spec['drop_layers']))}"
    if spec["kind"] == "hub":
        return as_text(f"{spec['repository']} at revision {spec['revision']}")
    if spec["kind"] == "outside":
        return "supplied ready-made"
    if spec["kind"] == "api":
        return as_text(f"texts asked of {spec['model']} behind a server")
    return as_text("a local copy: " + "/".join(_copied(spec)))


def licence_of(spec: dict[str, Any]) -> str:
    """Returns what is known of a licence; a local copy is known by its name alone."""
    if spec["kind"] in OURS:
        return OURS[spec["kind"]]
    if spec["kind"] == "pruned":
        return "that of the teacher's base"
    if spec["kind"] == "hub":
        return next((text for name, text in LICENCES.items() if spec["repository"].startswith(name)), "not recorded")
    if spec["kind"] in ("outside", "api"):
        return "not recorded"
    names = [name.lower() for name in _copied(spec)]
    known = {name.split("/")[1].lower(): text for name, text in LICENCES.items()}
    found = next((text for start, text in known.items() if any(name.startswith(start) for name in names)), None)
    return f"{found}, going by the name of the copy" if found else "not recorded"


def metadata(
    name: str,
    method: str | None,
    sources: Iterable[dict[str, Any]],
    role: str,
    bases: Mapping[str, dict[str, Any]],
    results: list[Any] | None = None,
) -> str:
    """Returns the YAML block of a card; what is not known is left out.

    Args:
        name: the model's.
        method: by which it was trained; None for one that was not.
        sources: specs of its data.
        role: whose base it has.
        bases: specs of the base models by role.
        results: `huggingface_hub.EvalResult` each.
    """
    from huggingface_hub import ModelCardData  # which only who writes a card needs

    own = bases.get(role)
    own = bases.get("teacher") if own and own["kind"] == "pruned" else own
    block = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["knowledge-distillation", *([method] if method else [])],
        datasets=sorted({spec["repository"] for spec in sources if spec["kind"] == "hub"}) or None,
        base_model=[own["repository"]] if own and own["kind"] == "hub" else None,
        eval_results=results or None,
    )
    return block.to_yaml().rstrip() + "\n"


def training_facts(run: Mapping[str, Any], seed: int | None) -> list[tuple[str, Any]]:
    """Returns the rows of a card's table that tell how a run trains."""
    options = {key: value for key, value in run.items() if key not in ("method", "training", "start")}
    return [
        ("method", run["method"]),
        ("training seed", seed),
        ("recipe", f"`{canonical_json(run['training'])}`"),
        ("options of the method", f"`{canonical_json(options)}`"),
    ]


def choice(folder: Path) -> str:
    """Returns by which scores a model was chosen."""
    if not (folder / SELECTION).is_file():
        return "The model was supplied from outside, or is a base; the workflow checked its folder and chose nothing."
    chosen = read_json(folder / SELECTION)
    scores = chosen["scores"]
    names = sorted({name for row in scores.values() for name in row})
    rows = [
        (f"**{update}**" if int(update) == chosen["update"] else update, *(f"{row[name]:.4g}" for name in names))
        for update, row in scores.items()
    ]
    kept = "" if chosen["update"] else ", the model that the run started from,"
    return (
        f"Update {chosen['update']}{kept} was chosen by `{chosen['rule']}` on the split `{chosen['split']}`; test "
        f"sets choose nothing.\n\n{text_table(('update', *names), rows)}"
    )


def prompt_of(wrapper: str) -> str:
    """Returns how a prompt is put into words, as code."""
    return f"```python\nprompt = {WRAPPERS[wrapper][0]!r}  # without an input\n```\n\n" if wrapper in WRAPPERS else ""


def render(name: str, block: str, introduction: str, sections: Mapping[str, str]) -> str:
    """Returns a card: a YAML block, a title, and sections by heading."""
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{block}---\n\n# {name}\n\n{introduction}\n\n{body}\n"


def bullets(lines: Iterable[str]) -> str:
    """Returns a list of sentences."""
    return "\n".join(f"- {line}" for line in lines)


def write_model_card(folder: Path, model: PublishedModel) -> None:
    """Writes the card of a published model into its folder, where its selection lies if a run made it."""
    made = model.made
    parts = {**made.sources, **{f"base of the {role}": spec for role, spec in made.bases.items()}}
    rows = [(what, name_of(spec), licence_of(spec)) for what, spec in parts.items()]
    facts, method = "No run of the study made it.", None
    if made.run:
        facts, method = text_table(("", ""), training_facts(made.run, made.seed)), made.run["method"]
        facts += f"\n\nIt starts at `{made.run['start']}`."
    embedded = all(spec["kind"] in (*OURS, "pruned") for spec in parts.values())
    use = (
        f"{prompt_of(model.wrapper)}`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load "
        "this folder. Its chat template makes this prompt of one user message, so `pipeline` and a server that speaks "
        f"the OpenAI protocol answer as trained. `max_new_tokens` is {model.max_new_tokens}; a response ends with EOS."
    )
    sections = {
        "How it was made": facts,
        "Data, bases and licences": f"{text_table(('part', 'source', 'licence'), rows)}\n\n{UNSTATED}",
        "Choice of the checkpoint": choice(folder),
        "Use": use,
        "Limits": bullets([INVENTED] * embedded + [UNTESTED]),
    }
    block = metadata(model.name, method, made.sources.values(), made.role, made.bases)
    write_text(folder / CARD, render(model.name, block, "A model of a distillation study.", sections))
