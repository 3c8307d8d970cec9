"""From a number of the tables, or from any artifact, back to all that it was made from; and the number once more."""

import math
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.cells import FORMS, TableCell, find_cells, number, read_lines, render_page
from distill.audit.evidence import Found, Lines, Witness, lines_by
from distill.audit.jobs import job_of
from distill.audit.recompute import as_written, input_of, inputs_by_name, measure_again
from distill.audit.words import count, decoding, describe, listed, ranges
from distill.checkpoints import CHECKPOINTS, checkpoint_name
from distill.command import Command, add_results, say
from distill.errors import DataError
from distill.files import read_json, read_jsonl
from distill.report.csv_tables import cell_text
from distill.report.recipes import Cell
from distill.report.tables import TABLES, table_rows

_ROUNDING = 1e-12
"""Relative difference up to which two numbers are the same sum in another order, as on another kind of CPU."""
_ENDS = ("score_responses", "judge_pair", "make_tables")
"""Rules whose artifacts are followed by the lines that a number needs, not as a whole."""
VERDICTS = EQUAL, ROUNDED, DIFFERENT = "equal", "equal up to rounding", "different"


def compare(written: str, again: str) -> str:
    """Returns one of the VERDICTS on what a cell holds and what the files give."""
    if written == again:
        return EQUAL
    first, second = number(written), number(again)
    if first is None or second is None or not math.isclose(first, second, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        return DIFFERENT
    return ROUNDED


def recompute(witness: Witness, cell: TableCell, evidence: Found) -> str:
    """Returns the text of a cell, computed again from the files behind it.

    Raises:
        DataError: the files give no such row, or are missing or malformed.
    """
    measured = measure_again(witness.archive, evidence.answers, evidence.runs)
    rows = table_rows(measured, witness.settings)[cell.table]
    row = next(islice(rows, cell.index, None), None)
    if row is None:
        raise DataError(f"{cell.place}: expected a row that the files give, found one more; run verify")
    return cell_text(row[cell.column])


def example_lines(archive: Archive, artifact: Artifact, file: str, ids: Iterable[str]) -> Iterator[tuple[str, dict]]:
    """Yields (path, {id: line}) of examples in a set and in each file that it was cut or gathered from.

    Raises:
        DataError: an example is not in a file.
    """
    lines = {key[0]: numbers[0] for key, numbers in lines_by(artifact.path / file, "id").items()}
    if missing := [id_ for id_ in ids if id_ not in lines]:
        raise DataError(f"{artifact.path / file}: expected example {missing[0]}, found none; run verify")
    yield f"{artifact.name}/{file}", {id_: lines[id_] for id_ in ids}
    if artifact.rule == "split_data":
        yield from example_lines(archive, input_of(archive, artifact, "instructions"), "examples.jsonl", ids)
    elif artifact.rule == "prepare_evaluation":
        part = artifact.settings["part"]
        yield from example_lines(
            archive, input_of(archive, artifact, "split" if part else "source"), f"{part or 'examples'}.jsonl", ids
        )


def _line(place: str, words: str) -> str:
    return f"  {place:<50}  {words}"


def _place(lines: Lines) -> str:
    return f"{lines.path}:{ranges(lines.numbers)}" if lines.numbers else lines.path


class Chain:
    """Prints what an artifact or a number was made from, each artifact once.

    Args:
        archive: the results.
    """

    def __init__(self, archive: Archive):
        self.archive, self.shown = archive, set[str]()

    def upstream(self, starts: Iterable[Artifact]) -> Iterator[str]:
        """Yields a line or more an artifact, those given first, then what they were made from, nearest first."""
        starts = [*starts]
        every = [*starts, *(other for start in starts for other in self.archive.upstream(start))]
        for artifact in every:
            if artifact.name not in self.shown:
                self.shown.add(artifact.name)
                yield _line(artifact.name, f"{describe(self.archive, artifact)} [{artifact.digest[:12]}]")
                yield from (_line("", words) for words in self._details(artifact))

    def _details(self, artifact: Artifact) -> Iterator[str]:
        if artifact.rule == "select_checkpoint":
            selection = read_json(artifact.path / "selection.json")
            for update, scores in selection["scores"].items():
                chosen = "  chosen" if int(update) == selection["update"] else ""
                yield f"update {update}: {listed(f'{name} {value:.4f}' for name, value in scores.items())}{chosen}"
            if selection["update"]:
                run = input_of(self.archive, artifact, "run").name
                yield f"weights: {run}/{CHECKPOINTS}/{checkpoint_name(selection['update'])}"
            else:
                yield f"weights: {input_of(self.archive, artifact, 'start').name}, the start"
        elif artifact.rule in ("gather_samples", "adopt_samples"):
            for (held_out,), numbers in lines_by(artifact.path / "samples.jsonl", "held_out").items():
                yield f"samples.jsonl:{ranges(numbers)}: {'held out' if held_out else 'to train on'}"

    def answers(self, witness: Witness, cells: Iterable[Cell], seed: int | None) -> Iterator[str]:
        """Yields the lines of answers, then those of their prompts and references back to the source."""
        datasets: dict[str, tuple[Artifact, list[str]]] = {}
        for system, dataset, name in cells:
            generations = witness.folder("entropies", system)
            path = generations.path / "generations.jsonl"
            found = {
                key[2]: numbers
                for key, numbers in lines_by(path, "dataset", "decoding", "seed").items()
                if key[:2] == (dataset, name) and seed in (None, key[2])
            }
            if not found:
                raise DataError(f"{path}: expected answers to {dataset} ({name}), found none; run verify")
            settings = generations.settings
            words = (
                f"seeds {listed(found)}, {count(len(next(iter(found.values()))), 'prompt')} each, "
                f"{decoding(settings['decodings'][name])}, at most {settings['max_new_tokens'][dataset]} tokens"
            )
            numbers = [line for lines in found.values() for line in lines]
            yield _line(f"{generations.name}/generations.jsonl:{ranges(numbers)}", words)
            if dataset not in datasets:
                ids = [row["id"] for row in rows_of_lines(path, next(iter(found.values())))]
                datasets[dataset] = inputs_by_name(self.archive, generations, "datasets")[dataset], ids
        yield "prompts and references"
        for artifact, ids in datasets.values():
            for name, lines in example_lines(self.archive, artifact, "examples.jsonl", ids):
                yield _line(f"{name}:{ranges([*lines.values()])}", f"{count(len(ids), 'prompt')}: {listed(ids, 2)}")

    def evidence(self, witness: Witness, evidence: Found) -> Iterator[str]:
        """Yields all that stands behind a cell."""
        yield "computed from"
        yield from (_line(_place(lines), lines.what) for lines in evidence.lines)
        if evidence.answers:
            yield "answers"
            yield from self.answers(witness, evidence.answers, evidence.seed)
        systems = dict.fromkeys([*(cell[0] for cell in evidence.answers), *evidence.runs])
        starts = [input_of(self.archive, witness.folder("entropies", name), "model") for name in systems]
        starts += [owner for owner in owners_of(self.archive, evidence) if owner.rule not in _ENDS]
        if starts:
            yield "made from, with the first digits of each digest"
            yield from self.upstream(starts)


def owners_of(archive: Archive, evidence: Found) -> list[Artifact]:
    """Returns the artifacts whose lines are at first hand behind a number."""
    return [owner for lines in evidence.lines if (owner := archive.owner(lines.path))]


def rows_of_lines(path: Path, numbers: Iterable[int]) -> list[dict]:
    """Returns the rows of some lines of a JSONL file."""
    wanted = set(numbers)
    return [row for number, row in read_jsonl(path) if number in wanted]


def prompt_lines(witness: Witness, evidence: Found) -> Iterator[str]:
    """Yields a line a prompt behind a cell: its id, its lines from the evaluation set to the source, its answers."""
    for system, dataset, name in evidence.answers:
        generations = witness.folder("entropies", system)
        found = lines_by(generations.path / "generations.jsonl", "dataset", "decoding", "id")
        ids = [key[2] for key in found if key[:2] == (dataset, name)]
        folder = inputs_by_name(witness.archive, generations, "datasets")[dataset]
        places = [*example_lines(witness.archive, folder, "examples.jsonl", ids)]
        for id_ in ids:
            where = [f"{path}:{lines[id_]}" for path, lines in places]
            yield "  ".join([id_, f"{generations.name}/generations.jsonl:{ranges(found[dataset, name, id_])}", *where])


def trace_cells(witness: Witness, cells: Iterable[TableCell], with_rows: bool) -> tuple[list[str], bool]:
    """Returns what is to be said of cells, and whether they are what the files behind them give.

    What stands behind several cells is said once.
    """
    said, groups, is_right = [], [], True
    for cell in cells:
        named = (f"{key}={cell.row[key]}" for key in TABLES[cell.table].keys if cell.row[key])
        said.append(f"{cell.place}  {', '.join(named)}")
        if number(cell.text) is None:
            said.append(f"  written     {cell.text or 'nothing'}, which is no number")
            continue
        evidence = witness.evidence(cell.table, cell.row, cell.column)
        again = recompute(witness, cell, evidence)
        verdict = compare(cell.text, again)
        said += [f"  written     {cell.text}", f"  again       {again}: {verdict} ({evidence.how})"]
        is_right &= verdict != DIFFERENT
        groups += [evidence] if evidence not in groups else []
    for evidence in groups:
        said += Chain(witness.archive).evidence(witness, evidence)
        if with_rows:
            said += ["prompts, with the lines of their answers and of their examples", *prompt_lines(witness, evidence)]
    return said, is_right


def trace_all(witness: Witness) -> tuple[list[str], bool]:
    """Returns what is to be said of every number of every table and of the page, and whether all are right."""
    archive = witness.archive
    again = {name: [*rows] for name, rows in table_rows(measure_again(archive), witness.settings).items()}
    said, kinds, verdicts, wrong = [], Counter[str](), Counter[str](), []
    for table in TABLES:
        written = read_lines(archive, table)
        if len(written) != len(again[table]):
            wrong.append(f"tables/{table}.csv: expected {count(len(again[table]), 'row')}, found {len(written)}")
        own = Counter[str]()
        for index, ((line, row), fresh) in enumerate(zip(written, again[table], strict=False)):
            for column in TABLES[table].columns:
                cell, text = TableCell(table, index, line, row, column), cell_text(fresh[column])
                verdict = compare(row[column], text)
                if verdict == DIFFERENT:
                    wrong.append(f"{cell.place}: expected {text or 'nothing'}, found {row[column] or 'nothing'}")
                if number(row[column]) is None:
                    continue
                own[verdict] += 1
                try:
                    evidence = witness.evidence(table, row, column)
                    kinds[evidence.how] += 1
                    missing = [one.path for one in evidence.lines if not witness.exists(one)]
                    wrong += [f"{cell.place}: expected {path} behind it, found none" for path in missing]
                except DataError as error:
                    wrong.append(f"{cell.place}: {error}")
        verdicts += own
        said.append(f"{table:<16}{own.total():>7,} numbers: {_tally(own)}")
    said.append(f"{verdicts.total():,} numbers in {count(len(TABLES), 'table')}: {_tally(verdicts)}")
    said += [f"  {how:<34}{kinds[how]:>7,}" for how in kinds]
    if "tables.md" in archive.artifacts:
        texts = {
            name: [{column: cell_text(row[column]) for column in TABLES[name].columns} for row in rows]
            for name, rows in again.items()
        }
        if render_page(archive, texts).text == (archive.results / "tables.md").read_text(encoding="utf-8"):
            said.append("tables.md: the page of these numbers")
        else:
            wrong.append("tables.md: expected the page of the recomputed numbers, found another; run verify")
    return [*said, *wrong], not wrong


def _tally(verdicts: Counter) -> str:
    return ", ".join(f"{verdicts[name]:,} {name}" for name in VERDICTS if verdicts[name]) or "none"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("place", nargs="?", metavar="PATH[:CELL]", help=f"an artifact or its file, or a cell: {FORMS}")
    parser.add_argument("--all", action="store_true", help="compute every number of every table again")
    parser.add_argument("--rows", action="store_true", help="list every prompt behind a cell with its lines")
    add_results(parser)


def _run(options: Namespace) -> int:
    """Prints the chain of an artifact or of a cell, or what became of every cell."""
    archive = study_archive(options.results)
    if options.all == bool(options.place):
        raise DataError("trace: expected a path or --all, found both or neither; give one of them")
    with as_written(archive.results):
        said, is_right = _trace(archive, options)
    say(*said)
    return 0 if is_right else 1


def _trace(archive: Archive, options: Namespace) -> tuple[list[str], bool]:
    if options.all:
        return trace_all(Witness(archive))
    path, _, cell = options.place.partition(":")
    if cell:
        return trace_cells(Witness(archive), find_cells(archive, archive.key(path), cell), options.rows)
    return [*Chain(archive).upstream([job_of(archive, path)])], True


COMMAND = Command("trace", "follow a number or a file back, and compute the number again", _add_arguments, _run)
