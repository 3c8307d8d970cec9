"""Which files and lines stand behind a cell of a table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path

from distill.audit.archive import Archive, Artifact
from distill.audit.recompute import inputs_by_name, tables_artifact, tables_settings
from distill.errors import DataError
from distill.files import read_jsonl
from distill.provenance.costs import SHARED
from distill.report import published
from distill.report.recipes import Cell, all_pairs, beside, comparison_families, recipes
from distill.training.checkpoints import DATA_SEEN, DEV, DEV_ITEMS, METRICS

SCORED, COUNTED, COMPUTED = "scored again from the answers", "counted again from the verdicts", "computed again"
MEASURED, SET, PUBLISHED = "read where it was measured", "a setting of the study", "a number of the paper"
"""How a cell's number is had again."""
GIVEN = {
    "rouge": ("training_seed",),
    "data_seen": ("training_seed",),
    "training_seeds": ("training_seeds",),
    "comparisons": ("training_seed", "tests"),
    "pairs": ("training_seeds", "tests"),
    "p_study": ("p",),
    "ablations": ("training_seeds", "p", "alpha", "plain_text_weight"),
    "hours": ("processes",),
}
"""Columns of numbers that the config gives."""
Row = Mapping[str, str]


@dataclass(frozen=True)
class Lines:
    """Lines of a file.

    Attributes:
        path: relative to the results folder, or of a published number relative to the repository.
        numbers: the lines, from 1; empty for the whole file.
        what: what they are.
    """

    path: str
    numbers: tuple[int, ...]
    what: str


@dataclass
class Evidence:
    """What stands behind a cell.

    Attributes:
        how: how its number is had again.
        lines: the lines that it is computed from at first hand.
        answers: the (system, dataset, decoding) whose answers are behind it.
        seed: the one sampling seed of these answers; None for all.
        runs: the training runs whose logs or selection are behind it.
    """

    how: str
    lines: list[Lines] = field(default_factory=list)
    answers: list[Cell] = field(default_factory=list)
    seed: int | None = None
    runs: list[str] = field(default_factory=list)


@lru_cache(maxsize=256)
def lines_by(path: Path, *keys: str) -> dict[tuple, tuple[int, ...]]:
    """Returns the line numbers of a JSONL file by the values of some keys.

    Raises:
        DataError: a row lacks a key, or the file is missing or malformed.
    """
    found: dict[tuple, list[int]] = defaultdict(list)
    for number, row in read_jsonl(path):
        try:
            found[tuple(row[key] for key in keys)].append(number)
        except KeyError as error:
            raise DataError(f"{path}:{number}: expected a field {error}, found none; run verify") from error
    return {values: tuple(numbers) for values, numbers in found.items()}


class Witness:
    """Finds the evidence of cells.

    Args:
        archive: the results.
    """

    def __init__(self, archive: Archive):
        self.archive, self.settings = archive, tables_settings(archive)
        self.tables = tables_artifact(archive)
        self._inputs = cache(partial(inputs_by_name, archive, self.tables))

    def evidence(self, table: str, row: Row, column: str) -> Evidence:
        """Returns what stands behind the cell of a row.

        Raises:
            DataError: a file that should hold it is missing, or has no such lines.
        """
        if column in GIVEN.get(table, ()):
            return Evidence(SET, [Lines(self.tables.record, (), "the config's slice of make_tables")])
        if column in ("paper", "paper_hours"):
            return Evidence(PUBLISHED, [self._published(table, row)])
        return _TABLES[table](self, row, column)

    def folder(self, name: str, key: str) -> Artifact:
        """Returns the artifact of a system, run or pair among the tables' inputs of a name.

        Raises:
            DataError: there is none.
        """
        found = self._inputs(name)
        if key not in found:
            raise DataError(
                f"{self.archive.results / self.tables.record}: expected an input {name} of {key}, found "
                f"{', '.join(found) or 'none'}; run verify to see what is missing"
            )
        return found[key]

    @cached_property
    def _recipes(self) -> dict[str, list[str]]:
        return recipes(self.settings.systems)

    def lines(self, folder: Artifact, file: str, what: str, **cells: object) -> Lines:
        """Returns the lines of an artifact's file whose rows hold some values; the whole file if none are asked for.

        Raises:
            DataError: no line holds them.
        """
        path, name = folder.path / file, f"{folder.name}/{file}"
        if not cells:
            if not path.is_file():
                raise DataError(f"{path}: expected a file, found none; run verify to see what is missing")
            return Lines(name, (), what)
        numbers = lines_by(path, *cells).get(tuple(cells.values()))
        if not numbers:
            wanted = ", ".join(f"{key} {value}" for key, value in cells.items())
            raise DataError(f"{path}: expected lines of {wanted}, found none; run verify to see what is changed")
        return Lines(name, numbers, what)

    def exists(self, lines: Lines) -> bool:
        """Returns whether the file of some lines is there."""
        root = self.archive.repository if lines.path.startswith("workflow/") else self.archive.results
        return (root / lines.path).is_file()

    def _scored(self, cells: Sequence[Cell], by_prompt: bool, seed: int | None = None, how: str = SCORED) -> Evidence:
        lines = []
        for system, dataset, decoding in cells:
            file, what = ("prompts.jsonl", "Rouge-L by prompt") if by_prompt else ("seeds.jsonl", "scores by seed")
            own = {"dataset": dataset, "decoding": decoding} | ({} if seed is None else {"seed": seed})
            lines.append(self.lines(self.folder("scores", system), file, what, **own))
        return Evidence(how, lines, [*cells], seed)

    def _cells(self, names: Iterable[str], datasets: Iterable[str], decoding: str) -> list[Cell]:
        """Returns the cells of recipes: each training seed's system on each set."""
        datasets = [*datasets]
        return [
            (member, dataset, decoding)
            for name in names
            for member in self._recipes.get(name, [name])
            for dataset in datasets
        ]

    def _rouge(self, row: Row, column: str) -> Evidence:
        return self._scored([(row["system"], row["dataset"], row["decoding"])], False)

    def _data_seen(self, row: Row, column: str) -> Evidence:
        if column == "rouge":
            return self._rouge(row, column)
        what = "what the run's updates drew, counted by train_run"
        return Evidence(MEASURED, self._logs([row["system"]], DATA_SEEN, what), runs=[row["system"]])

    def _rouge_seeds(self, row: Row, column: str) -> Evidence:
        return self._scored([(row["system"], row["dataset"], row["decoding"])], False, int(row["seed"]))

    def _training_seeds(self, row: Row, column: str) -> Evidence:
        return self._scored(self._cells([row["system"]], [row["dataset"]], row["decoding"]), False)

    def _quality(self, row: Row, column: str) -> Evidence:
        if column != "entropy":
            return self._rouge(row, column)
        return self._entropy([row["system"]])

    def _entropy(self, systems: Iterable[str]) -> Evidence:
        folders = [self.folder("entropies", system) for system in systems]
        what = "mean entropy along the model's own answers, measured by generate_responses"
        return Evidence(MEASURED, [self.lines(folder, "entropy.json", what) for folder in folders])

    def _comparisons(self, row: Row, column: str) -> Evidence:
        systems = [row["system"], row["baseline"]]
        if column == "p_adjusted":
            seed = int(row["training_seed"]) if row["training_seed"] else None
            family = comparison_families(self.settings.systems)[row["student"], seed]
            systems = [*dict.fromkeys(name for pair in family for name in pair)]
        return self._scored([(name, row["dataset"], row["decoding"]) for name in systems], True)

    def _pairs(self, row: Row, column: str) -> Evidence:
        names = [row["system"], row["other"]]
        if column == "p_adjusted":
            pairs = all_pairs(self.settings.systems)[row["student"]]
            names = [*dict.fromkeys(name for pair in pairs for name in pair)]
        return self._scored(self._cells(names, [row["dataset"]], row["decoding"]), True)

    def _ablations(self, row: Row, column: str) -> Evidence:
        systems, members = self.settings.systems, self._recipes[row["system"]]
        if column == "dev_rouge":
            return Evidence(SCORED, [lines for run in members for lines in self._dev_rouge(run)], runs=members)
        if column == "entropy":
            return self._entropy(members)
        if not column.startswith("over_"):
            return self._scored(self._cells([row["system"]], [row["dataset"]], row["decoding"]), False)
        wanted = (lambda one: one.run == "phase1") if "phase1" in column else (lambda one: one.method == "seqkd")
        names = [row["system"], beside(systems, row["system"], wanted)]
        return self._scored(self._cells(names, [row["dataset"]], row["decoding"]), True)

    def _claims(self, row: Row, column: str) -> Evidence:
        if row["quantity"] == "mass":
            return self._sets(row, column)
        if row["quantity"] == "time ratio":
            members = [name for recipe in (row["system"], row["against"]) for name in self._recipes[recipe]]
            found = self._logs(members, METRICS, "seconds of each update")
            # The ratio with what is shared is the only one that rests on records.
            found += self._records(SHARED) if "included" in row["claim"] else []
            return Evidence(COMPUTED, found, runs=members)
        others, datasets = [row["against"]], [row["dataset"]]
        if not row["dataset"]:  # the claim on every set rests on all of them, whichever is shown
            systems, datasets = self.settings.systems, self.settings.datasets
            methods = ("KD", "SeqKD")
            others = [
                beside(systems, row["system"], lambda one, method=method: published.paper_method(one) == method)
                for method in methods
            ]
        return self._scored(self._cells([row["system"], *others], datasets, row["decoding"]), True)

    def _logs(self, runs: Iterable[str], file: str, what: str) -> list[Lines]:
        return [self.lines(self.folder("runs", run), file, what) for run in runs]

    def _records(self, costs: Iterable[str]) -> list[Lines]:
        names = {SHARED[cost]: cost for cost in costs}
        return [
            Lines(entry.uri, (), f"start and end of a job: {names[entry.name]}")
            for entry in self.archive.inputs(self.tables)
            if entry.name in names
        ]

    def _hours(self, row: Row, column: str) -> Evidence:
        if row["cost"] != "training":
            return Evidence(COMPUTED, self._records([row["cost"]]))
        run = row["system"]
        return Evidence(COMPUTED, self._logs([run], METRICS, "seconds of each update"), runs=[run])

    def _sets(self, row: Row, column: str) -> Evidence:
        folders = inputs_by_name(self.archive, self.tables, "candidates").values()
        what = "statistics of the teacher's candidate sets, measured by build_candidates"
        return Evidence(MEASURED, [self.lines(folder, "statistics.json", what) for folder in folders])

    def _learning(self, row: Row, column: str) -> Evidence:
        run, what = row["run"], "held-out objective by teacher sample"
        updates = {0, int(row["update"])} if column in ("difference", "lo", "hi") else {int(row["update"])}
        folder = self.folder("runs", run)
        lines = [self.lines(folder, DEV_ITEMS, f"{what}, update {update}", step=update) for update in sorted(updates)]
        return Evidence(COMPUTED, lines, runs=[run])

    def _win_rates(self, row: Row, column: str) -> Evidence:
        pair, cell = (row["system"], row["opponent"]), (row["dataset"], row["decoding"])
        folder = self.folder("verdicts", "-".join(pair))
        answers = [(system, *cell) for system in pair]
        if column == "spent_usd":
            what = "what the judge cost, lost replies included"
            return Evidence(MEASURED, [self.lines(folder, "win_rate.json", what)])
        if column == "seed":
            return Evidence(SET, [Lines(folder.record, (), "the config's slice of judge_pair")])
        what = f"verdicts of {row['judge']}, each prompt in both orders"
        return Evidence(COUNTED, [self.lines(folder, "verdicts.jsonl", what)], answers, int(row["seed"]))

    def _dev_rouge(self, run: str, update: int | None = None) -> list[Lines]:
        model = self.folder("models", run)
        found = [self.lines(model, "selection.json", "the checkpoints and their dev scores")]
        for folder in inputs_by_name(self.archive, model, "validation").values():
            own = {} if update is None else {"update": update}
            what = "dev answers" + ("" if update is None else f" of update {update}")
            found.append(self.lines(folder, "generations.jsonl", what, **own))
        return found

    def _selection(self, row: Row, column: str) -> Evidence:
        run, update = row["run"], int(row["update"])
        if column == "dev_rouge":
            return Evidence(SCORED, self._dev_rouge(run, update), runs=[run])
        if column == "dev_loss":
            found = self.lines(self.folder("runs", run), DEV, f"dev loss of update {update}", step=update)
            return Evidence(MEASURED, [found], runs=[run])
        found = self.lines(self.folder("models", run), "selection.json", "the checkpoints")
        return Evidence(COMPUTED, [found], runs=[run])

    def _training(self, row: Row, column: str) -> Evidence:
        run = row["run"]
        if column == "final_dev_loss":
            return Evidence(MEASURED, self._logs([run], DEV, "dev loss of each checkpoint"), runs=[run])
        if column == "selected_update":
            return Evidence(COMPUTED, self._dev_rouge(run), runs=[run])
        return Evidence(COMPUTED, self._logs([run], METRICS, "a row an update"), runs=[run])

    def _published(self, table: str, row: Row) -> Lines:
        system, paper = self.settings.systems[row["system"]], self.settings.paper
        file, find = {
            "rouge": ("table1", lambda: published.rouge_row(system, paper, row["dataset"])),
            "p_study": ("table2", lambda: published.p_row(system, paper, row["dataset"])),
            "hours": ("table3", lambda: published.hours_row(system, paper)),
            "chi_square": ("table4", lambda: published.chi_square_row(system, paper, row["dataset"])),
        }[table]
        found = find()
        if found is None:
            raise DataError(f"{table}: expected no number of the paper for {row['system']}, found one; run verify")
        path = f"workflow/distill/report/paper/{file}.csv"
        return Lines(path, (published.published(file).index(found) + 2,), "as the paper prints it")


_TABLES: dict[str, Callable[[Witness, Row, str], Evidence]] = {
    "rouge": Witness._rouge,
    "data_seen": Witness._data_seen,
    "rouge_seeds": Witness._rouge_seeds,
    "training_seeds": Witness._training_seeds,
    "claims": Witness._claims,
    "comparisons": Witness._comparisons,
    "pairs": Witness._pairs,
    "quality": Witness._quality,
    "p_study": Witness._rouge,
    "chi_square": Witness._rouge,
    "ablations": Witness._ablations,
    "hours": Witness._hours,
    "candidate_sets": Witness._sets,
    "sorted_mass": Witness._sets,
    "learning": Witness._learning,
    "win_rates": Witness._win_rates,
    "selection": Witness._selection,
    "training": Witness._training,
}
