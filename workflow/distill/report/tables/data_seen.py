"""What the updates of each run drew: distinct prompts, distinct responses (none where the run samples them itself),
those of them that are labels of the data, and sequences with repetitions. The teacher's responses are no labels. What
the start has seen comes on top: a run from phase 1 builds on phase 1's labelled rows, and all that distils on the
teacher's. Plain text is not counted. Dropout: whether the model's own rates acted; Qwen2's and those of new models are
0.

Runs with the same start, prompts, responses, sequences and updates: {groups}. Between runs that are not in one group a
difference is one of data or length as well as of method.

All runs share start, prompts, responses, sequences and updates.

No two runs share start, prompts, responses, sequences and updates: every difference between them is one of data or
length as well as of method.
"""

from collections.abc import Iterator, Mapping, Sequence

from distill.checkpoints import DATA_SEEN
from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.metrics.registry import load_metric
from distill.report.evidence import MEASURED, Evidence, logged, of_row
from distill.report.markdown import Form, Part, number, table
from distill.report.measured import Rows, spread
from distill.report.recipes import Cell
from distill.report.table import Table, View, paragraphs

_, ALIKE, ALL_ALIKE, NONE_ALIKE = paragraphs(__doc__)


def data_seen_rows(
    data_seen: Mapping[str, Mapping], cells: Mapping[Cell, Rows], settings: MakeTables
) -> Iterator[dict]:
    """Yields what the updates of every run drew (data_seen.json), beside its score on the first set in the primary
    decoding. `prompt_set` tells sets of prompts apart.
    """
    dataset, decoding = settings.datasets[0], primary_decoding(settings.decodings)
    for name, seen in data_seen.items():
        system = settings.systems[name]
        yield {
            "system": name,
            "student": system.student,
            "training_seed": system.seed,
            "run": system.run,
            "method": system.method,
            "start": system.options["start"],
            "dropout": "yes" if system.options["dropout"] else "no",
            **{key: seen[key] for key in ("prompts", "responses", "labelled_rows", "sequences", "updates")},
            "prompt_set": seen["prompts_sha256"] and f"set {seen['prompts_sha256'][:8]}",
            "dataset": dataset,
            "decoding": decoding,
            "metric": settings.metrics[dataset],
            "score": spread(cells[name, dataset, decoding])["mean"],
        }


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    if column == "score":
        return of_row(row)
    return logged(MEASURED, [row["system"]], "what the run's updates drew, counted by train_run", DATA_SEEN)


def shared_data(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns the sentence on which compared runs share start, prompts, responses, sequences and updates.

    Teachers and phase 1 are not compared runs, and of several training seeds the first speaks for all.

    Args:
        rows: data_seen.csv.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    first: dict[str, str] = {}
    for row in rows:
        is_first = first.setdefault(row["student"], row["training_seed"]) == row["training_seed"]
        if is_first and row["student"] and row["run"] != "phase1":
            # A run whose task does not tell its prompts is like no other.
            prompts = row["prompt_set"] or row["system"]
            key = row["student"], row["start"], prompts, row["responses"], row["sequences"], row["updates"]
            groups.setdefault(key, []).append(row["system"])
    alike = [names for names in groups.values() if len(names) > 1]
    if len(groups) <= 1:
        return ALL_ALIKE
    if not alike:
        return NONE_ALIKE
    return ALIKE.format(groups="; ".join(", ".join(f"`{name}`" for name in names) for names in alike))


def _markdown(view: View) -> list[Part]:
    names = ("system", "start", "dropout", "prompts", "responses", "labelled_rows", "sequences", "updates")
    forms: dict[str, Form | str] = {name.replace("_", " "): name for name in names}
    first = view.rows[0]
    forms[f"{load_metric(first['metric']).title}, {first['dataset']}, {first['decoding']}"] = number("score")
    return [*view.head(), *table(forms, [row for row in view.rows if row["system"] not in view.further])]


TABLE = Table(
    order=20,
    title="Data seen",
    columns=(
        *("system", "student", "training_seed", "run", "method", "start", "dropout", "prompts", "responses"),
        *("labelled_rows", "sequences", "updates", "prompt_set", "dataset", "metric", "decoding", "score"),
    ),
    keys=("system",),
    given=("training_seed",),
    rows=lambda study: data_seen_rows(study.measured.data_seen, study.cells, study.settings),
    evidence=_evidence,
    notes=lambda rows, embedded: [shared_data(rows)],
    markdown=_markdown,
)
