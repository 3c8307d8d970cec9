"""What each model costs to run. Times and memory are of this run's machine and its load, and no rerun repeats them; all
models were measured in one job, one after another, each in a fresh process and after a warm-up. Disk: the model's
folder. Memory: the most that the process held, weights, libraries (those alone stand beside it) and the cache of all
prompts; of a GPU what was allocated there. Tokens/s: tokens written, all prompts at once, the median of several times.
p50, p95: median and 95th percentile of the time of a whole answer, one prompt at a time; tokens: the mean length of
these answers. Kept: share of the first teacher's {score}. Of several training seeds the first seed's model is measured,
and the score is their mean. Cost: of a million tokens written, all prompts at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.evaluation.efficiency import MEASURED as FILE
from distill.evaluation.efficiency import efficiency, retention
from distill.markdown import as_text
from distill.report.evidence import COMPUTED, MEASURED, Evidence, Source, cells_of, scored
from distill.report.markdown import Form, Part, number, percent, table
from distill.report.measured import Rows, spread
from distill.report.recipes import Cell, recipes
from distill.report.table import Table, View

_MIB = 2**20


def _teacher(settings: MakeTables) -> str | None:
    """Returns the first teacher, if the study has one."""
    return next((name for name, system in settings.systems.items() if not system.student), None)


def efficiency_rows(measured: Rows, cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields what each measured system costs to run, beside its score on the first set in the primary decoding.

    Args:
        measured: rows of measured.jsonl.
        cells: rows by sampling seed.
        settings: the systems, and the price of an hour.
    """
    dataset, decoding = settings.datasets[0], primary_decoding(settings.decodings)
    members, teacher = recipes(settings.systems), _teacher(settings)
    scores = {
        name: fmean(spread(cells[member, dataset, decoding])["mean"] for member in own) for name, own in members.items()
    }
    for row in measured:
        name = row["system"]
        figures = efficiency(row, settings.price_per_hour)
        yield {
            **{key: row[key] for key in ("system", "parameters", "tokens", "engine", "machine", "prompts")},
            "same_as": row["measured"] if row["measured"] != name else None,
            **figures,
            "disk_mib": row["disk_bytes"] / _MIB,
            "libraries_mib": row["libraries_bytes"] / _MIB,
            "peak_mib": row["peak_bytes"] / _MIB,
            "dataset": dataset,
            "decoding": decoding,
            "metric": settings.metrics[dataset],
            "score": scores[name],
            "retention": None if name == teacher else retention(scores[name], scores[teacher] if teacher else None),
            "price_per_hour": settings.price_per_hour,
            "currency": settings.currency,
        }


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    if column in ("score", "retention"):
        return scored(cells_of(row, settings, _teacher(settings) if column == "retention" else None))
    what = "what measure_efficiency measured of the model"
    how = COMPUTED if column in _TIMES else MEASURED
    return Evidence(how, [Source("efficiency", None, FILE, what, {"system": row["system"]})])


def _notes(rows: Sequence[Mapping[str, str]], embedded: bool) -> list[str]:
    """Returns the sentences that say by what and on what was measured, and which systems are one model."""
    first = rows[0]
    machines = ", ".join(dict.fromkeys(row["machine"] for row in rows))
    price = f", at {first['price_per_hour']} {first['currency']} an hour" if first["price_per_hour"] else ""
    shared = [f"`{row['system']}` is `{row['same_as']}`" for row in rows if row["same_as"]]
    return [
        f"Measured with {first['engine']} on {as_text(machines)}: the first {first['prompts']} prompts of "
        f"{first['dataset']}, `{first['decoding']}`{as_text(price)}.",
        *([f"One model under two names, measured once: {', '.join(shared)}."] if shared else []),
    ]


def _markdown(view: View) -> list[Part]:
    forms: dict[str, Form | str] = {
        "system": "system",
        "parameters": lambda row: f"{int(row['parameters']):,}",
        "disk, MiB": number("disk_mib"),
        "memory, MiB": number("peak_mib", 0),
        "libraries, MiB": number("libraries_mib", 0),
        "tokens/s": number("tokens_per_second", 0),
        "p50, ms": number("latency_p50_ms"),
        "p95, ms": number("latency_p95_ms"),
        "tokens": number("tokens"),
        "kept": lambda row: row["retention"] and percent(row["retention"]),
    }
    if view.rows[0]["price_per_hour"]:
        forms[f"{as_text(view.rows[0]['currency'])} a million tokens"] = number("cost_per_million", 4)
    return [*view.head(), *table(forms, view.rows)]


_TIMES = ("tokens_per_second", "latency_p50_ms", "latency_p95_ms", "cost_per_million", "libraries_mib", "peak_mib")

TABLE = Table(
    order=85,
    title="Efficiency",
    columns=(
        *("system", "same_as", "parameters", "disk_mib", "peak_mib", "libraries_mib", "tokens_per_second"),
        *("latency_p50_ms", "latency_p95_ms", "tokens", "score", "retention", "cost_per_million", "price_per_hour"),
        *("currency", "dataset", "metric", "decoding", "prompts", "engine", "machine"),
    ),
    keys=("system",),
    given=("price_per_hour",),
    times=(*_TIMES, "machine"),
    rows=lambda study: efficiency_rows(study.measured.efficiency, study.cells, study.settings),
    evidence=_evidence,
    notes=_notes,
    markdown=_markdown,
)
