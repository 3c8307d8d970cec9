"""The twenty questions of an auditor, answered from the results folder and the repository alone."""

import csv
import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from inspect import getdoc
from pathlib import Path

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.cells import TableCell, find_cells, number, read_lines
from distill.audit.diff import compare_runs, tell
from distill.audit.evidence import Witness, lines_by
from distill.audit.jobs import beside, job_of
from distill.audit.recompute import as_written
from distill.audit.trace import Chain, owners_of
from distill.audit.verify import verify
from distill.audit.words import count, decoding, describe, duration, flat, listed, ranges, seconds
from distill.command import Command, add_results, say
from distill.config.slices.render_tables import RenderTables
from distill.data.same_prompt import find_shared
from distill.files import ROOT_MANIFEST, digest_file, read_json, read_jsonl
from distill.metrics.registry import load_metric
from distill.pages.limits import limits
from distill.provenance.failures import PREFIX
from distill.records import read_examples
from distill.report.evidence import PUBLISHED, SET
from distill.report.tables import TABLES

NOT_RECORDED = "not recorded"
PAGES = ("make_tables", "render_tables", "draw_figures", "render_report")
"""Rules whose artifacts show every number."""


@dataclass
class Answer:
    """What is to be said on a question, and the files that say so, relative to the results or the repository."""

    lines: list[str]
    evidence: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """A question with its number and who answers it."""

    number: int
    text: str
    answer: Callable[["Auditor"], Answer]


class Auditor:
    """Answers on one artifact, or on all of them.

    Args:
        archive: the results.
        path: an artifact or a file of one; None for the whole study.
        cell: of the table that `path` is.
        against: another run to compare with.

    Attributes:
        own: the artifact asked for, or all.
        scope: it and all that it was made from.

    Raises:
        DataError: no job wrote the path, the table has no such cell, or there is nothing to ask about.
    """

    def __init__(
        self, archive: Archive, path: str | None = None, cell: str | None = None, against: Archive | None = None
    ):
        self.archive, self.path, self.against = archive, path, against
        owner = job_of(archive, path) if path else None
        self.own = [owner] if owner else [*archive.artifacts.values()]
        self.scope = [owner, *archive.upstream(owner)] if owner else self.own
        self.cells = find_cells(archive, archive.key(path), cell) if path and cell else []

    def of(self, *rules: str) -> list[Artifact]:
        """Returns the artifacts in scope that some rules made."""
        return [artifact for artifact in self.scope if artifact.rule in rules]

    def grouped(self, artifacts: Iterable[Artifact], value: Callable[[Artifact], object]) -> list[str]:
        """Returns a line for each value, with the artifacts that have it."""
        groups: dict[str, list[str]] = {}
        for artifact in artifacts:
            groups.setdefault(str(value(artifact)), []).append(artifact.name)
        if len(groups) == 1 and len(self.own) > 1:
            return [f"{only} (all {len(names)} artifacts)" for only, names in groups.items()]
        return [f"{one} ({listed(names, 4)})" for one, names in groups.items()]

    @staticmethod
    def records(artifacts: Iterable[Artifact]) -> list[str]:
        """Returns the records of artifacts as evidence."""
        return [artifact.record for artifact in artifacts]

    @cached_property
    def locks(self) -> dict[str, str]:
        """The repository's lock files by the digest that records hold."""
        files = sorted((self.archive.repository / "envs").glob("*.lock"))
        return {digest_file(file)[:16]: str(file.relative_to(self.archive.repository)) for file in files}

    def environment(self) -> Answer:
        """Which container or environment did it run in?"""

        def said(artifact: Artifact) -> str:
            lock = self.locks.get(artifact.lock, "a lock that the repository no longer holds")
            packages = listed((f"{name} {text}" for name, text in artifact.versions.items()), 99)
            return f"{lock}, digest {artifact.lock}; {packages}"

        locks = [self.locks[digest] for digest in dict.fromkeys(one.lock for one in self.own) if digest in self.locks]
        image = f"container image: the workflow starts none; one around it is {NOT_RECORDED}"
        return Answer([*self.grouped(self.own, said), image], [*self.records(self.own), *locks])

    def resources(self) -> Answer:
        """How much memory, processor time and disk traffic did it take, and on which GPU?"""
        lines = [
            f"{sum(one.usage['cpu_seconds'] for one in self.own):,.1f} CPU seconds, at most "
            f"{max(one.usage['peak_memory_mib'] for one in self.own):,} MiB of memory in one process",
            *self.grouped(self.own, lambda one: f"GPUs: {listed(one.host.get('gpus', ['none']))}"),
        ]
        benchmarks = [name for one in self.own if (name := beside(self.archive, one, "benchmarks"))]
        totals = Counter[str]()
        for name in benchmarks:
            with open(self.archive.results / name, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    totals += Counter({key: number(row[key]) or 0 for key in ("io_in", "io_out")})
        disk = f"{totals['io_in']:,.1f} MB read and {totals['io_out']:,.1f} MB written" if benchmarks else NOT_RECORDED
        lines.append(f"disk, by Snakemake's samples of {count(len(benchmarks), 'job')}: {disk}")
        return Answer(lines, [*self.records(self.own), *benchmarks])

    def config(self) -> Answer:
        """Which keys of the config did the step use?"""
        if len(self.own) > 1:
            lines = [f"{one.name}: {count(len(flat(one.settings)), 'key')} of the config" for one in self.own]
            lines.append("`questions PATH` and `show PATH` list them")
            whole = [one.record for one in self.own if "config" in one.settings]
            return Answer(lines, [*self.records(self.own), *whole])
        (artifact,) = self.own
        lines = [f"{key} = {value}" for key, value in flat(artifact.settings).items() if key]
        return Answer(lines or ["none"], [artifact.record])

    def environment_file(self) -> Answer:
        """Which file describes the step's environment?"""

        def said(artifact: Artifact) -> str:
            lock = self.locks.get(artifact.lock)
            return (
                f"{lock}, beside it {Path(lock).with_suffix('.yaml')}" if lock else f"{artifact.lock}, no file of today"
            )

        return Answer(self.grouped(self.own, said), [self.locks.get(one.lock, one.record) for one in self.own])

    def step_time(self) -> Answer:
        """How long did the step take?"""
        longest = sorted(self.own, key=seconds, reverse=True)
        lines = [f"{one.name}: {duration(seconds(one))}, {one.started} to {one.finished}" for one in longest]
        return Answer(lines, self.records(self.own))

    def run_time(self) -> Answer:
        """How long did the run take?"""
        start, end = min(one.started for one in self.scope), max(one.finished for one in self.scope)
        wall = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
        work = sum(map(seconds, self.scope))
        lines = [
            f"{duration(wall)} from the first start {start} to the last end {end}",
            f"{duration(work)} of steps, one after another ({count(len(self.scope), 'step')})",
        ]
        return Answer(lines, self.records(self.scope))

    def outcome(self) -> Answer:
        """Did it succeed, and if not, why?"""
        said = "succeeded: its output was published whole and sealed, which a failed step never does"
        lines, failed = self.grouped(self.own, lambda one: said), []
        logs = [name for one in self.own if (name := beside(self.archive, one, "logs"))]
        if not self.path:
            every = sorted((self.archive.results / "logs").rglob("*.log"))
            logs = [str(path.relative_to(self.archive.results)) for path in every]
        for name in logs:
            end = (self.archive.results / name).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-1:]
            failed += [f"{name}: {line}" for line in end if line.startswith(PREFIX)]
        again = [f"{one.name} ({one.tries} tries)" for one in self.own if one.tries > 1]
        lines.append(f"failed: {listed(failed)}" if failed else "no log ends with an error")
        if again:
            lines.append(f"started more than once: {listed(again)}; a later try replaces the log that told why")
        return Answer(lines, [*self.records(self.own), *logs])

    def inputs_and_outputs(self) -> Answer:
        """What went in, and what came out?"""
        lines = []
        if self.path:
            (artifact,) = self.own
            inputs = self.archive.inputs(artifact)
            lines = [f"in: {entry.name} {entry.uri} (sha256 {entry.sha256[:12]})" for entry in inputs]
            lines = lines or ["in: nothing but its settings"]
            lines += [f"out: {name} (sha256 {entry['sha256'][:12]})" for name, entry in artifact.files().items()]
            return Answer(lines, [artifact.record, artifact.seal])
        used = {entry.artifact.name for one in self.own for entry in self.archive.inputs(one) if entry.artifact}
        for one in self.own:
            for entry in self.archive.inputs(one):
                if not entry.is_inside:
                    lines.append(f"in: {entry.uri} (sha256 {entry.sha256[:12]}), for {one.name}")
            if "hub" in one.notes or not one.dependencies:
                lines.append(f"in: {one.name}: {describe(self.archive, one)}")
        ends = [one for one in self.own if one.name not in used]
        lines += [f"out: {one.name}: {describe(self.archive, one)} (sha256 {one.digest[:12]})" for one in ends]
        return Answer(lines, self.records(ends))

    def code(self) -> Answer:
        """Which version of the code made it?"""
        states = {True: "nothing uncommitted", False: "with uncommitted changes", None: "state unknown"}
        lines = self.grouped(self.own, lambda one: f"commit {one.commit or NOT_RECORDED}, {states[one.clean]}")
        rules = dict.fromkeys((one.rule, one.code) for one in self.own)
        lines += [f"{rule}: digest {code} of its script and all of the package that it imports" for rule, code in rules]
        return Answer(lines, self.records(self.own))

    def script(self) -> Answer:
        """Which script wraps the step?"""
        scripts, lines = {one.command[1]: one for one in self.own}, []
        for name in scripts:
            path = self.archive.repository / name
            digest = f"sha256 {digest_file(path)[:16]}" if path.is_file() else "none of that name"
            lines.append(f"{name}; in this repository: {digest}")
        return Answer(
            lines,
            [
                *self.records(scripts.values()),
                *(name for name in scripts if (self.archive.repository / name).is_file()),
            ],
        )

    def parameters(self) -> Answer:
        """How did the config's values reach the program?"""
        lines = []
        for one in self.own:
            given = one.command[one.command.index("--settings") + 1] if "--settings" in one.command else "{}"
            same = "the settings of the record" if json.loads(given) == one.settings else "not those of the record"
            flags = [part for part in one.command if part.startswith("--") and part != "--settings"]
            lines.append(f"{one.name}: as JSON after --settings, {same}; files and digests by {' '.join(flags)}")
        if self.path:
            lines.append(" ".join(self.own[0].command))
        return Answer(lines, self.records(self.own))

    @cached_property
    def findings(self) -> tuple[list[str], list[str]]:
        """What `verify` finds in the artifacts asked for, and in what they were made from."""
        sides: tuple[list[str], list[str]] = ([], [])
        for finding in verify(self.archive, None, [self.path, self.own[0].name] if self.path else ()).findings:
            owner = self.archive.owner(finding.path)
            # Other bytes of an input are found at the artifact that was made from it.
            is_own = finding.kind != "stale" and (not self.path or owner is None or owner is self.own[0])
            sides[0 if is_own else 1].append(f"{finding.path}: {finding.kind}: {finding.message}")
        return sides

    def _root(self) -> list[str]:
        return [ROOT_MANIFEST] if (self.archive.results / ROOT_MANIFEST).is_file() else []

    def identity(self) -> Answer:
        """Is it, byte for byte, what its step wrote?"""
        files = sum(len(one.files()) for one in self.own)
        yes = f"yes: {count(files, 'file')} as sealed, each hashed now"
        return Answer(self.findings[0] or [yes], [*(one.seal for one in self.own), *self._root()])

    def upstream(self) -> Answer:
        """Is anything that it was made from changed, missing or newer?"""
        lines, links = [*self.findings[1], *([] if self.path else self.findings[0])], 0
        for one in self.scope:
            for entry in self.archive.inputs(one):
                links += 1
                if entry.artifact and entry.artifact.finished > one.started:
                    lines.append(f"{entry.uri}: newer than {one.name}, which started at {one.started}")
        among = f"{count(links, 'link')} among {count(len(self.scope), 'artifact')}"
        return Answer(lines or [f"no: {among} hold, each input older than its use"], self.records(self.scope))

    def _a_cell(self, witness: Witness) -> TableCell | None:
        """Returns the first number of the tables that rests on what was asked for."""
        table = Path(self.path).stem if self.path and self.path.endswith(".csv") else None
        for name in [table] if table in TABLES else TABLES:
            for index, (line, row) in enumerate(read_lines(self.archive, name)):
                for column in TABLES[name].columns:
                    if number(row[column]) is not None:
                        evidence = witness.evidence(name, row, column)
                        owners = owners_of(self.archive, evidence)
                        behind = {one.name for owner in owners for one in (owner, *self.archive.upstream(owner))}
                        if evidence.how not in (SET, PUBLISHED) and (
                            len(self.own) > 1 or behind & {self.own[0].name} or self.own[0].rule in PAGES
                        ):
                            return TableCell(name, index, line, row, column)
        return None

    def cell(self) -> Answer:
        """Which files and lines give a number of the tables, down to data rows and model source?"""
        if "tables" not in self.archive.artifacts:
            return Answer(["the study has no tables yet"], self.records(self.own))
        witness, lines, chains = Witness(self.archive), [], []
        cells = self.cells or [found for found in [self._a_cell(witness)] if found]
        if not cells:
            return Answer([f"no number of the tables rests on {self.own[0].name}"], self.records(self.own))
        if not self.cells:
            lines = ["any number: `trace PATH:CELL`; all of them: `trace --all`; the first that rests on this:"]
        for cell in cells:
            evidence = witness.evidence(cell.table, cell.row, cell.column)
            lines.append(f"{cell.place} = {cell.text}, {evidence.how}")
            chains += [evidence] if evidence not in chains else []
        for evidence in chains:
            lines += Chain(self.archive).evidence(witness, evidence)
        return Answer(lines, [f"tables/{cells[0].table}.csv", *(one.path for found in chains for one in found.lines)])

    def samples(self) -> Answer:
        """Which teacher samples trained the student, and with which seed were they drawn?"""
        lines, evidence = [], []
        for one in self.of("gather_samples", "adopt_samples"):
            path = one.path / "samples.jsonl"
            for (held_out,), numbers in lines_by(path, "held_out").items():
                each = [len(own) for key, own in lines_by(path, "id", "held_out").items() if key[1] == held_out]
                what = f"{listed(sorted({*each}))} samples of each of {count(len(each), 'prompt')}"
                use = "held out, to watch" if held_out else "to train on"
                lines.append(f"{one.name}/samples.jsonl:{ranges(numbers)}: {what}, {use}")
            evidence += [one.record, f"{one.name}/samples.jsonl"]
        for shard in self.of("sample_teacher"):
            how = f"seed {shard.settings['seed']}, {decoding(shard.settings)}"
            lines.append(f"{shard.name}: {how}; a sample's own seed is the digest of seed, example id and sample index")
            evidence.append(shard.record)
        for one in self.of("ask_teacher"):
            how = f"seed {one.settings['seed']}, {decoding(one.settings)}"
            lines.append(f"{one.name}: {one.settings['teacher']['model']}, {how}; its server need not draw them again")
            evidence.append(one.record)
        trained = []
        for run in self.of("train_run"):
            if any(entry.name == "samples" for entry in self.archive.inputs(run)):
                most = run.settings["run"].get("samples_per_prompt")
                trained.append(f"{run.name} ({f'the first {most} a prompt' if most else 'all'})")
        lines.append(f"given to {listed(trained, 99)}" if trained else "no student behind this took teacher samples")
        return Answer(lines, evidence or self.records(self.of("train_run") or self.own))

    def checkpoint(self) -> Answer:
        """Which checkpoint was chosen, by which scores and split, and was the test set unseen?"""
        lines, evidence, models = [], [], self.of("select_checkpoint")
        for one in models:
            selection = read_json(one.path / "selection.json")
            key = "dev_loss" if selection["rule"] == "last" else selection["rule"]
            scores = [f"{update}: {found[key]:.4f}" for update, found in selection["scores"].items()]
            kept = "" if selection["update"] else ", its start,"
            lines.append(
                f"{one.name}: update {selection['update']}{kept} by {selection['rule']} on {selection['split']}, among "
                f"{listed(scores, 99)} ({key})"
            )
            evidence.append(f"{one.name}/selection.json")
        if not models:
            return Answer(["no checkpoint was chosen for this"], self.records(self.own))
        seen = {
            other.name
            for one in models
            for other in self.archive.upstream(one)
            if other.rule == "prepare_evaluation" and other.settings["name"] != "dev"
        }
        lines.append(f"evaluation sets behind any choice: {listed(seen) or 'none'}")
        return Answer([*lines, *self._leaks(models)], evidence)

    def _leaks(self, models: list[Artifact]) -> Iterator[str]:
        """Yields how many prompts of each evaluation set train or dev have, counted now."""
        sets = {one.name: one for one in self.archive.artifacts.values() if one.rule == "prepare_evaluation"}
        splits = {one.name: one for model in models for one in self.archive.upstream(model) if one.rule == "split_data"}
        seen = [example for one in splits.values() for example in read_examples(one.path / "train.jsonl")]
        seen += [example for name in sets if name.endswith("/dev") for example in read_examples(_examples(sets[name]))]
        for name, one in sets.items():
            if not name.endswith("/dev"):
                shared = find_shared(read_examples(_examples(one)), seen)
                yield f"{name}: {count(len(shared), 'prompt')} that train or dev has too, compared now"

    def judge(self) -> Answer:
        """Who judged: which model, prompt, order, raw reply and fingerprint?"""
        lines, evidence = [], []
        for one in self.of("judge_pair"):
            path, found = one.path / "verdicts.jsonl", one.settings["judge"]
            rows = [row for _, row in read_jsonl(path)]
            models, prints = (sorted({str(row[key]) for row in rows}) for key in ("model", "system_fingerprint"))
            orders = listed(f"{order} {times}" for order, times in Counter(row["order"] for row in rows).items())
            raw, unread = (sum(test(row) for row in rows) for test in (_has_reply, lambda row: row["unparsable"]))
            by = load_metric(found.get("metric", "rouge_l"))  # older records have none
            asked = f"no prompt: the answer of higher {by.title} wins"
            if found["kind"] == "openai":
                asked = f"wording {found['wording']} of code {one.code}, at {found['base_url']}"
            lines.append(
                f"{one.name}: {listed(models)}; {asked}; orders {orders}; {raw} raw replies of {len(rows)}, {unread} "
                f"unparsable; system_fingerprint {listed(prints)}"
            )
            evidence.append(f"{one.name}/verdicts.jsonl")
        return Answer(lines or ["no verdict is behind this"], evidence or self.records(self.own))

    def tries(self) -> Answer:
        """How often was it tried or resumed, on which host and GPU?"""

        def said(one: Artifact) -> str:
            resumed = {True: "resumed", False: "never resumed", None: f"resumed: {NOT_RECORDED}"}[one.resumed]
            place = f"host {one.host['name']}, {one.host['machine']}, {one.host['cpus']} CPUs"
            return (
                f"started {count(one.tries, 'time')}, {resumed}; {place}, GPUs {listed(one.host.get('gpus', ['none']))}"
            )

        return Answer(self.grouped(self.own, said), self.records(self.own))

    def differences(self) -> Answer:
        """What differs from another run?"""
        if self.against:
            said, _ = tell(compare_runs(self.archive, self.against))
            return Answer(said, [str(self.against.results)])
        digest = f"sha256:{digest_file(self.archive.results / ROOT_MANIFEST)}" if self._root() else NOT_RECORDED
        within = [
            count(len({str(getattr(one, name)) for one in self.scope}), name) for name in ("commit", "lock", "host")
        ]
        lines = [f"this run is {ROOT_MANIFEST} {digest}", f"behind this are {', '.join(within)}"]
        lines.append("another run is compared with it by `questions --against RUN` or `diff RUN RUN`")
        return Answer(lines, [*self._root(), *self.records(self.scope)])

    def not_repeatable(self) -> Answer:
        """What would not repeat bit for bit, and why?"""
        page = self.archive.artifacts.get("tables.md")
        if page is None:
            return Answer(["the study has no tables.md yet, whose record says how it ran"], self.records(self.own))
        settings = RenderTables.model_validate(page.settings)
        judges = dict.fromkeys(one.notes["judge"] for one in self.of("judge_pair") if "judge" in one.notes)
        timed = [
            one.name
            for one in self.scope
            if one.rule in ("train_run", "make_base", "measure_efficiency", "make_tables")
        ]
        metrics = [name for one in self.of("score_responses") for name in one.settings["metrics"].values()]
        lines = limits(judges, metrics, settings.deepspeed, settings.sampling)
        lines.append(f"times were measured in {listed(timed) if timed else 'nothing behind this'}")
        return Answer(lines, [page.record, *self.records(self.of("judge_pair"))])


def _examples(artifact: Artifact) -> Path:
    return artifact.path / "examples.jsonl"


def _has_reply(verdict: Mapping) -> bool:
    return verdict["raw"] is not None


ANSWERS = (
    Auditor.environment,
    Auditor.resources,
    Auditor.config,
    Auditor.environment_file,
    Auditor.step_time,
    Auditor.run_time,
    Auditor.outcome,
    Auditor.inputs_and_outputs,
    Auditor.code,
    Auditor.script,
    Auditor.parameters,
    Auditor.identity,
    Auditor.upstream,
    Auditor.cell,
    Auditor.samples,
    Auditor.checkpoint,
    Auditor.judge,
    Auditor.tries,
    Auditor.differences,
    Auditor.not_repeatable,
)
QUESTIONS = tuple(Question(number, getdoc(answer) or "", answer) for number, answer in enumerate(ANSWERS, start=1))
"""Each question is what stands above its answer."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "place", nargs="?", metavar="PATH[:CELL]", help="an artifact, its file, or a cell; none for all"
    )
    parser.add_argument("--only", type=int, nargs="+", choices=range(1, 21), metavar="N", help="these questions alone")
    parser.add_argument("--against", type=Path, metavar="RUN", help="another results folder, for question 19")
    parser.add_argument("--full", action="store_true", help="print long answers whole")
    add_results(parser)


_SHOWN = 12


def _run(options: Namespace) -> int:
    path, _, cell = (options.place or "").partition(":")
    against = study_archive(options.against) if options.against else None
    auditor = Auditor(study_archive(options.results), path or None, cell or None, against)
    for question in QUESTIONS:
        if not options.only or question.number in options.only:
            with as_written(auditor.archive.results):
                answer = question.answer(auditor)
            shown = answer.lines if options.full else answer.lines[:_SHOWN]
            rest = len(answer.lines) - len(shown)
            shown += [f"and {count(rest, 'line')} more (--full)"] if rest else []
            say(f"{question.number:>2}. {question.text}")
            say(*(f"    {line}" for line in shown))
            say(f"    evidence: {listed(dict.fromkeys(answer.evidence))}")
    return 0


COMMAND = Command("questions", "answer an auditor's twenty questions on a file or on the study", _add_arguments, _run)
