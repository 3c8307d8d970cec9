"""A whole run as a Workflow Run RO-Crate: what was made from what, by which tool, with which parameters, and when.

The profile is Provenance Run Crate 0.5: the workflow with its steps and tools, one action a job, the parameters of each
and how they are connected. All of it is read from the records; equal results give an equal crate.
"""

import ast
import json
import shlex
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from distill.audit.archive import Archive, Artifact, Dependency
from distill.files import MANIFEST, ROOT_MANIFEST, canonical_json, digest_value
from distill.provenance.record import BUILD_TYPE, RECORD, STATEMENT
from distill.publish import materials
from distill.publish.libraries import audit_library

METADATA = "ro-crate-metadata.json"
RESULTS = "results"
"""Where a crate keeps the results, whatever their folder was called."""
WORKFLOW = "Snakefile"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
MEDIA_TYPES = {
    ".css": "text/css",
    ".csv": "text/csv",
    ".html": "text/html",
    ".in": "text/plain",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".lock": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".png": "image/png",
    ".py": "text/x-python",
    ".safetensors": "application/octet-stream",
    ".sh": "application/x-sh",
    ".smk": "text/x-python",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
    "": "text/plain",
}
UNITS = {"_seconds": "http://qudt.org/vocab/unit/SEC", "_mib": "http://qudt.org/vocab/unit/MebiBYTE"}
REQUIREMENTS = "https://pip.pypa.io/en/stable/reference/requirements-file-format/"
COMPLETED = "http://schema.org/CompletedActionStatus"


@dataclass(frozen=True)
class Contents:
    """What a crate is to describe.

    Attributes:
        archive: the results.
        files: {path in the crate: {size, sha256}} of every file but the metadata itself.
        sources: {path in the crate: bytes} of the workflow's own files.
        version: of the workflow: a git commit, or words where there is none.
        config: path of the study's config; None where the study has no report, whose record has it.
        locks: {first 16 hex digits of a lock's sha256: its path}.
        materials: {path of a lock: path of the list of its packages}.
        cards: {artifact: path of its model card}.
        licence: one sentence about licences.
    """

    archive: Archive
    files: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, bytes]
    version: str
    config: str | None
    locks: Mapping[str, str]
    materials: Mapping[str, str]
    cards: Mapping[str, str]
    licence: str


def script_of(rule: str) -> str:
    """Returns the path of a rule's script."""
    return f"workflow/scripts/{rule}.py"


def _without_nothing(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value not in (None, [], "")}


class _Graph:
    """The entities of a crate while it is being put together; `describe_run` calls the methods in their order."""

    def __init__(self, contents: Contents):
        self.contents, self.archive = contents, contents.archive
        self.jobs = sorted(self.archive.artifacts.values(), key=lambda artifact: (artifact.started, artifact.name))
        self.rules: dict[str, list[Artifact]] = defaultdict(list)
        for artifact in self.jobs:
            self.rules[artifact.rule].append(artifact)
        rocrate, model = audit_library("rocrate.rocrate"), audit_library("rocrate.model")
        self.crate = rocrate.ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(TERMS)
        self.crate.metadata.extra_terms["buildInstructions"] = "https://codemeta.github.io/terms/buildInstructions"
        self.root, self._entity = self.crate.root_dataset, model.ContextEntity

    def add(self, identifier: str, kind: str, **properties: Any) -> Any:
        """Adds an entity that is no file, unless it is there; what is None or empty is left out."""
        found = self.crate.get(identifier)
        return found or self.crate.add(
            self._entity(self.crate, identifier, _without_nothing({"@type": kind, **properties}))
        )

    def entity(self, name: str) -> Any | None:
        """Returns the entity of a file or folder of the results; None if there is none."""
        return self.crate.get(f"{RESULTS}/{name}") or self.crate.get(f"{RESULTS}/{name}/")

    def tool(self, rule: str) -> Any:
        """Returns the entity of a rule's script."""
        return self.crate.get(script_of(rule))

    def parameter(self, owner: Any, direction: str, path: str, example: Any, **properties: Any) -> Any:
        """Returns a formal parameter of a tool or of the workflow, with one more example of it."""
        kind = "Dataset" if example.type == "Dataset" else "File" if "File" in example.type else "PropertyValue"
        name = path.rsplit("/", 1)[1]
        parameter = self.crate.get(f"#{path}")
        if parameter is None:
            parameter = self.add(f"#{path}", "FormalParameter", name=name, additionalType=kind, **properties)
            owner.append_to(direction, parameter)
        if {"@id": parameter.id} not in example.properties().get("exampleOfWork", []):
            example.append_to("exampleOfWork", parameter)
            parameter.append_to("workExample", example)
        return parameter

    def connect(self, owner: Any, source: Any, target: Any) -> None:
        """Says that what comes out of one parameter goes into another."""
        identifier = f"#connection/{source.id[1:]}/to/{target.id[1:]}"
        if self.crate.get(identifier) is None:
            owner.append_to(
                "connection",
                self.add(identifier, "ParameterConnection", sourceParameter=source, targetParameter=target),
            )

    def describe_root(self, title: str) -> None:
        """Names the crate, its profiles, its date and what is known of licences."""
        self.root["name"] = title
        self.root["description"] = (
            "A distillation study: its workflow, environments, every result with its record, and model cards."
        )
        self.root["identifier"] = f"sha256:{self.contents.files[f'{RESULTS}/{ROOT_MANIFEST}']['sha256']}"
        self.root["datePublished"] = max(artifact.finished for artifact in self.jobs)
        self.root["license"] = self.add(
            "#licence", "CreativeWork", name="Licences of the parts", description=self.contents.licence
        )
        self.root["conformsTo"] = [
            self.add(profile, "CreativeWork", name=name, version=profile.rsplit("/", 1)[1])
            for profile, name in PROFILES.items()
        ]

    def describe_files(self) -> None:
        """Adds every file, and every folder with its parts."""
        made = {}
        for artifact in self.jobs:
            for name in (artifact.name, artifact.record):
                made[f"{RESULTS}/{name}"] = artifact.finished
        scripts = set(map(script_of, self.rules))
        lists = set(self.contents.materials.values())
        parts: dict[str, list[Any]] = defaultdict(list)
        for path, entry in self.contents.files.items():
            media = materials.MEDIA_TYPE if path in lists else MEDIA_TYPES.get(PurePosixPath(path).suffix)
            forms = {RECORD: STATEMENT, ".cdx.json": materials.FORMAT, ".lock": REQUIREMENTS}
            properties = {
                "name": path,
                "contentSize": str(entry["size"]),
                "sha256": entry["sha256"],
                "encodingFormat": "application/json" if path.endswith(f"/{MANIFEST}") else media,
                "dateModified": made.get(path),
                "conformsTo": next(({"@id": place} for end, place in forms.items() if path.endswith(end)), None),
            }
            if path == WORKFLOW:
                entity = self.crate.add_workflow(
                    dest_path=path, properties=_without_nothing(properties), main=True, lang="snakemake"
                )
                entity.type.append("HowTo")
            else:
                kind = {"@type": ["File", "SoftwareSourceCode"]} if path in scripts else {}
                entity = self.crate.add_file(dest_path=path, properties=kind | _without_nothing(properties))
            parts[str(PurePosixPath(path).parent)].append(entity)
        folders = {parent for path in self.contents.files for parent in PurePosixPath(path).parents}
        for folder in sorted(map(str, folders)):
            if folder != ".":
                properties = {"name": folder, "dateModified": made.get(folder)}
                entity = self.crate.add_dataset(dest_path=folder, properties=_without_nothing(properties))
                parts[str(PurePosixPath(folder).parent)].append(entity)
        for folder, entities in parts.items():
            owner = self.root if folder == "." else self.crate.get(f"{folder}/")
            owner["hasPart"] = sorted(entities, key=lambda entity: entity.id)
        for form in (STATEMENT, materials.FORMAT, REQUIREMENTS):
            self.add(form, "CreativeWork", name=form)
        for name, card in self.contents.cards.items():
            self.crate.get(card)["about"] = self.entity(name)
        if readme := self.crate.get("README.md"):
            readme["about"] = self.root

    def describe_tools(self) -> None:
        """Tells of the workflow, its steps, the scripts that they run, and the software these ran with."""
        workflow = self.workflow = self.crate.get(WORKFLOW)
        workflow["version"] = self.contents.version
        for number, (rule, artifacts) in enumerate(self.rules.items(), start=1):
            tool = self.tool(rule)
            code = ast.parse(self.contents.sources[tool.id])
            tool["description"] = " ".join((ast.get_docstring(code) or rule).split())
            tool["version"] = sorted({artifact.code for artifact in artifacts})
            versions = {pair for artifact in artifacts for pair in artifact.versions.items()}
            tool["softwareRequirements"] = [self.software(*pair) for pair in sorted(versions)]
            workflow.append_to("hasPart", tool)
            step = self.add(
                f"#step/{rule}",
                "HowToStep",
                name=rule,
                position=str(number),
                workExample=tool,
                buildInstructions=[self.crate.get(lock) for lock in self.locks(artifacts)],
            )
            workflow.append_to("step", step)
        workflow["buildInstructions"] = [self.crate.get(lock) for lock in self.locks(self.jobs)]
        for lock, listed in self.contents.materials.items():
            self.crate.get(listed)["about"] = self.crate.get(lock)

    def locks(self, artifacts: list[Artifact]) -> list[str]:
        """Returns the paths of the locks that artifacts were made with, as far as they are at hand."""
        return sorted(
            {self.contents.locks[lock] for lock in {job.lock for job in artifacts} & set(self.contents.locks)}
        )

    def software(self, name: str, version: str) -> Any:
        """Returns the entity of a package, named by its package URL."""
        kind = "generic" if name == "python" else "pypi"
        url = audit_library("packageurl").PackageURL(kind, name=name, version=version).to_string()
        page = "https://www.python.org/" if name == "python" else f"https://pypi.org/project/{name}/"
        return self.add(url, "SoftwareApplication", name=name, softwareVersion=version, url=page)

    def outside(self, dependency: Dependency) -> Any:
        """Returns the entity of an input that the crate does not hold: its name and digest."""
        return self.add(
            f"#outside/{dependency.sha256[:16]}",
            "PropertyValue",
            name=dependency.uri,
            value=f"sha256:{dependency.sha256}",
            description="An input from outside the study; its bytes are not in the crate.",
        )

    def inputs(self, job: Artifact) -> list[Any]:
        """Returns what a job took in, each connected with where it came from."""
        tool, step, found = self.tool(job.rule), self.crate.get(f"#step/{job.rule}"), []
        for dependency in self.archive.inputs(job):
            held = self.entity(dependency.uri)
            example = held or self.outside(dependency)
            found.append(example)
            path = f"{job.rule}/inputs/{dependency.name}"
            target = self.parameter(tool, "input", path, example, description=f"--{dependency.name.replace('_', '-')}")
            owner = self.archive.owner(dependency.uri) if held else None
            if owner is None:
                source = self.parameter(
                    self.workflow, "input", f"workflow/inputs/{dependency.name}-{dependency.sha256[:16]}", example
                )
            else:
                output = "record" if dependency.uri == owner.record else "artifact"
                source = self.parameter(self.tool(owner.rule), "output", f"{owner.rule}/outputs/{output}", example)
            self.connect(step, source, target)
        if hub := job.notes.get("hub"):
            place = ("" if hub["kind"] == "model" else "datasets/") + f"{hub['repository']}/tree/{hub['revision']}"
            found.append(
                self.add(
                    f"https://huggingface.co/{place}",
                    "CreativeWork",
                    name=f"{hub['kind']} {hub['repository']}",
                    version=hub["revision"],
                )
            )
        return found

    def settings(self, job: Artifact) -> list[Any]:
        """Returns the parameters that a job was started with: its slice of the config, and the digests of its key."""
        tool, step, found = self.tool(job.rule), self.crate.get(f"#step/{job.rule}"), []
        given = {
            "code": job.code,
            "lock": job.lock,
            **{f"settings.{key}": value for key, value in job.settings.items()},
        }
        for name, value in given.items():
            plain = isinstance(value, str | int | float)
            example = self.add(
                f"#{job.rule}/values/{name}/{digest_value(value)[:16]}",
                "PropertyValue",
                name=name,
                value=value if plain else canonical_json(value),
            )
            found.append(example)
            target = self.parameter(
                tool, "input", f"{job.rule}/parameters/{name}", example, description=f"--{name.split('.')[0]}"
            )
            if self.contents.config and name.startswith("settings."):
                config = self.crate.get(self.contents.config)
                self.connect(step, self.parameter(self.workflow, "input", "workflow/inputs/config", config), target)
        return found

    def describe_jobs(self) -> list[Any]:
        """Adds one action a job; returns the actions by which the engine controlled them."""
        controls = []
        for job in self.jobs:
            tool, kept = self.tool(job.rule), [self.entity(job.name), self.entity(job.record)]
            for name, example in zip(("artifact", "record"), kept, strict=True):
                self.parameter(tool, "output", f"{job.rule}/outputs/{name}", example)
            objects = self.inputs(job) + self.settings(job)
            last = PurePosixPath(job.name).name
            traces = [f"logs/{job.rule}/{last}.log", f"logs/{job.rule}.log"]
            traces += [f"benchmarks/{job.rule}/{last}.tsv", f"benchmarks/{job.rule}.tsv"]
            action = self.add(
                f"#job/{job.name}",
                "CreateAction",
                name=f"{job.rule}: {job.name}",
                description=shlex.join(job.command),
                instrument=tool,
                object=list(dict.fromkeys(objects)),
                result=kept,
                startTime=job.started,
                endTime=job.finished,
                actionStatus=COMPLETED,
                resourceUsage=[self.usage(job, name, value) for name, value in job.usage.items()],
                subjectOf=[kept[1], *filter(None, map(self.entity, traces))],
            )
            controls.append(
                self.add(
                    f"#control/{job.name}",
                    "ControlAction",
                    name=f"{job.rule} started for {job.name}",
                    instrument=self.crate.get(f"#step/{job.rule}"),
                    object=action,
                    actionStatus=COMPLETED,
                )
            )
            self.root.append_to("mentions", action)
        return controls

    def usage(self, job: Artifact, name: str, value: Any) -> Any:
        """Returns the entity of one resource that a job used."""
        return self.add(
            f"#job/{job.name}/usage/{name}",
            "PropertyValue",
            name=name,
            propertyID=f"{BUILD_TYPE}#{name}",
            unitCode=next(({"@id": unit} for end, unit in UNITS.items() if name.endswith(end)), None),
            value=str(value),
        )

    def describe_run(self, title: str, controls: list[Any]) -> None:
        """Adds the run as a whole: from the config and what came from outside to what nothing else was made from."""
        ends = [job for job in self.jobs if not self.archive.downstream(job)]
        for job in ends:
            path = f"workflow/outputs/{PurePosixPath(job.name).name}"
            target = self.parameter(self.workflow, "output", path, self.entity(job.name))
            self.connect(self.workflow, self.crate.get(f"#{job.rule}/outputs/artifact"), target)
        begins = [example for port in self.workflow.get("input", []) for example in port["workExample"]]
        times = {"startTime": self.jobs[0].started, "endTime": max(job.finished for job in self.jobs)}
        run = self.add(
            "#run",
            "CreateAction",
            name=title,
            description=f"Run of {WORKFLOW}, {len(self.jobs)} jobs",
            instrument=self.workflow,
            object=list(dict.fromkeys(begins)),
            result=[self.entity(job.name) for job in ends],
            actionStatus=COMPLETED,
            **times,
        )
        engines = sorted({job.versions["snakemake"] for job in self.jobs if "snakemake" in job.versions})
        engine = [self.software("snakemake", version) for version in engines]
        organise = self.add(
            "#organise",
            "OrganizeAction",
            name="Snakemake ran the workflow",
            instrument=engine or self.workflow,
            object=controls,
            result=run,
            actionStatus=COMPLETED,
            **times,
        )
        self.root.append_to("mentions", [run, organise])


def title_of(archive: Archive) -> str:
    """Returns the heading that a study gives its tables."""
    page = archive.artifacts.get("tables.md")
    return page.settings["title"] if page else "A distillation study"


def describe_run(contents: Contents) -> str:
    """Returns the text of the crate's ro-crate-metadata.json."""
    graph, title = _Graph(contents), title_of(contents.archive)
    graph.describe_root(title)
    graph.describe_files()
    graph.describe_tools()
    graph.describe_run(title, graph.describe_jobs())
    described = graph.crate.metadata.generate()
    for entity in described["@graph"]:  # as JSON-LD has it when compacted
        entity |= {key: value[0] for key, value in entity.items() if isinstance(value, list) and len(value) == 1}
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
