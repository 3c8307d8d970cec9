"""What the repository would make an artifact with today: its rule, slice of the config, code and lock."""

from pathlib import Path
from typing import Any

from distill.audit.archive import Archive, Artifact
from distill.files import digest_file
from distill.provenance.code import code_digest
from distill.provenance.record import public
from distill.study.stages import STAGES, slice_of
from distill.study.study import Study

_INSTEAD = {"gather_samples": "adopt_samples", "select_checkpoint": "adopt_model"}
_INSTEAD |= {other: rule for rule, other in _INSTEAD.items()}
"""Rules that make the same artifact: what `external` supplies is adopted."""


def _job(study: Study, artifact: Artifact) -> tuple[str, dict[str, str]] | None:
    """Returns rule and wildcards of the job that makes an artifact today; None if the config asks for no such job."""
    for rule in (artifact.rule, _INSTEAD.get(artifact.rule, "")):
        for wildcards in STAGES[rule].each(study) if rule in STAGES else ():
            if not wildcards or "-".join(wildcards.values()) == artifact.path.name:
                return rule, wildcards
    return None


def present_key(study: Study, artifact: Artifact, repository: Path) -> dict[str, Any] | None:
    """Returns {rule, settings, code, lock} of the job that makes an artifact today; None if the config asks for none.

    Whether a key for the judge is set where the audit is done says nothing of the study: `judge.kind: auto` is taken
    for what it was.

    Raises:
        ConfigError: a plugin that the config names is not there.
        DataError: the repository lacks the rule's script or lock.
    """
    job = _job(study, artifact)
    if job is None:
        return None
    rule, wildcards = job
    if rule == "judge_pair" and study.judge.kind == "auto":
        kind = artifact.settings.get("judge", {}).get("kind", "overlap")
        study = study.model_copy(update={"judge": study.judge.model_copy(update={"kind": kind})})
    workflow = repository / "workflow"
    code = code_digest(workflow / "scripts" / f"{rule}.py", workflow, tuple(STAGES[rule].modules(study, **wildcards)))
    lock = repository / getattr(study.environments, STAGES[rule].software).lock
    settings = slice_of(study, rule, **wildcards).model_dump(mode="json")
    return {"rule": rule, "settings": public(settings), "code": code, "lock": digest_file(lock)[:16]}


def made_jobs(archive: Archive, study: Study) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Returns rule and wildcards of each job whose artifact is as today's config and code make it, from such inputs."""
    jobs, current = {}, set()
    for name, artifact in archive.artifacts.items():
        if not (archive.results / artifact.seal).is_file() or (job := _job(study, artifact)) is None:
            continue
        jobs[name] = job[0], frozenset(job[1].items())
        present = present_key(study, artifact, archive.repository) or {}
        if present and all(getattr(artifact, part) == value for part, value in present.items()):
            current.add(name)
    return {
        job
        for name, job in jobs.items()
        if name in current and all(other.name in current for other in archive.upstream(archive.artifacts[name]))
    }
