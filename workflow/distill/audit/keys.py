"""What the repository would make an artifact with today: its rule, slice of the config, code and lock."""

import inspect
from pathlib import Path
from typing import Any

from distill.audit.archive import Artifact
from distill.config.methods import method_module, plugin_files
from distill.config.slices import SLICES, judged_pairs, run_of, slice_of, sources_of
from distill.config.study import Study
from distill.files import digest_file
from distill.provenance.code import code_digest
from distill.provenance.record import public

FAMILIES = {
    **dict.fromkeys(("make_base", "train_run", "build_candidates"), "train"),
    **dict.fromkeys(("sample_teacher", "validate_run", "generate_responses"), "vllm"),
}
"""The software family of each rule that is not light, as the rule files have it."""


def _wildcards(study: Study, rule: str, artifact: Artifact) -> dict[str, str] | None:
    """Returns a job's wildcards by its artifact's name; None if the config asks for no such job."""
    last = artifact.path.name
    names = list(inspect.signature(SLICES[rule]).parameters)[1:]
    if rule == "judge_pair":
        pair = next((pair for pair in judged_pairs(study) if "-".join(pair) == last), None)
        return pair and dict(zip(names, pair, strict=True))
    known = {
        "source": sources_of(study),
        "dataset": ["dev", *study.data.evaluation],
        "role": ["teacher", "student", *study.further_students],
        "run": study.systems,
        "system": study.systems,
        "adopted": study.systems,
        "shard": [str(shard) for shard in range(study.teacher_samples.shards)],
    }
    return {name: last for name in names} if all(last in known[name] for name in names) else None


def _rule(study: Study, artifact: Artifact) -> str:
    """Returns the rule that makes an artifact; what `external` supplies is adopted."""
    given = {name for name, path in study.external.model_dump().items() if path}
    if artifact.name == "samples":
        return "adopt_samples" if "samples" in given else "gather_samples"
    if artifact.name.startswith("models/"):
        return "adopt_model" if artifact.path.name in given else "select_checkpoint"
    return artifact.rule


def _modules(study: Study, rule: str, wildcards: dict[str, str]) -> tuple[str | Path, ...]:
    """Returns what a rule's script loads by name."""
    if rule == "train_run":
        method = run_of(study, wildcards["run"]).method
        return (plugin_files(study.plugins).get(method, method_module(method)),)
    if rule == "select_checkpoint" and run_of(study, wildcards["run"]).select == "dev_rouge":
        return ("distill.evaluation.dev_scores",)
    return ()


def present_key(study: Study, artifact: Artifact, repository: Path) -> dict[str, Any] | None:
    """Returns {rule, settings, code, lock} of the job that makes an artifact today; None if the config asks for none.

    Whether a key for the judge is set where the audit is done says nothing of the study: `judge.kind: auto` is taken
    for what it was.

    Raises:
        ConfigError: a plugin that the config names is not there.
        DataError: the repository lacks the rule's script or lock.
    """
    rule = _rule(study, artifact)
    wildcards = _wildcards(study, rule, artifact) if rule in SLICES else None
    if wildcards is None:
        return None
    if rule == "judge_pair" and study.judge.kind == "auto":
        kind = artifact.settings.get("judge", {}).get("kind", "overlap")
        study = study.model_copy(update={"judge": study.judge.model_copy(update={"kind": kind})})
    workflow = repository / "workflow"
    code = code_digest(workflow / "scripts" / f"{rule}.py", workflow, _modules(study, rule, wildcards))
    lock = repository / getattr(study.environments, FAMILIES.get(rule, "light")).lock
    settings = slice_of(study, rule, **wildcards).model_dump(mode="json")
    return {"rule": rule, "settings": public(settings), "code": code, "lock": digest_file(lock)[:16]}
