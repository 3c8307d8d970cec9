"""The report: one HTML file that needs nothing else, for reading, sorting and filtering in a browser."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from distill.config.slices.render_report import RenderReport
from distill.metrics.registry import load_metric
from distill.pages import captions, page_words
from distill.pages.figures import FORMATS
from distill.pages.findings import Outcome, findings
from distill.pages.grid import grids
from distill.pages.inline_svg import inline
from distill.pages.limits import limits
from distill.records import Example, clean_response
from distill.report.columns import shown_columns
from distill.report.table import metric_words, worded
from distill.report.tables import TABLES

Table = Sequence[Mapping[str, str]]
COLUMNS = 14
"""How many columns of a table stand side by side; the others are in a second table behind a line that opens it."""
NAME = 14
"""Characters of a name that stays on one line."""
PRINT_ROWS = 40
"""Longer tables are left to their files in print."""
CHARACTERS = 1500
"""How much of a text the page shows; the files have all."""
_HERE = Path(__file__).parent


def _prose(text: str) -> Markup:
    """Returns a caption with its `code` and **strong** words marked up."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text))


def _json(value: Any) -> Markup:
    """Returns JSON that no HTML parser mistakes for markup: `<`, `>` and `&` can only stand in its strings."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text))


def _breakable(text: str) -> Markup:
    """Returns a text; a line may break inside a long one behind the signs that hold its parts together."""
    parts = re.split(r"(?<=[_.,/:=])", text) if len(text) > NAME else [text]
    return Markup("<wbr>").join(filter(None, parts))


def _csp(source: str) -> str:
    """Returns the name of an inline script or style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _table(name: str, tables: Mapping[str, Table], settings: RenderReport) -> dict[str, Any]:
    """Returns what the page shows of a table."""
    table, rows = TABLES[name], tables[name]
    columns, shared = shown_columns(rows)
    words = {column["name"]: column["texts"][0] for column in columns} | shared | metric_words(rows, tables)
    repeated = f" (the paper's {table.paper[1].replace('table', 'Table ')})" if table.paper and _paper(settings) else ""
    return {
        "name": name,
        "title": worded(table.title, words) + repeated,
        "caption": [worded(TABLES[table.beside or name].caption, words), *table.notes(rows, settings.embedded)],
        "columns": columns[:COLUMNS],
        "further": [*(one for one in columns if one["name"] in table.keys), *columns[COLUMNS:]]
        if columns[COLUMNS:]
        else [],
        "shared": {column.replace("_", " "): text for column, text in shared.items()},
        "rows": rows,
    }


def _paper(settings: RenderReport) -> bool:
    """Returns whether the study repeats models of the paper; else the page names nothing of it."""
    return bool(settings.config.get("paper"))


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} […]"


def sample_answers(
    generations: Mapping[str, Iterable[Mapping]],
    examples: Mapping[str, Sequence[Example]],
    prompts: int,
    metrics: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what the page shows of the systems' answers.

    Args:
        generations: rows of each system's generations.jsonl; they are read once.
        examples: the evaluation sets by name.
        prompts: how many of each set the page shows; 0 for none.
        metrics: the name of each set's metric.

    Returns:
        {limits, systems, decodings: {name: seeds}, datasets: {name: {total, metric, prompts}}, answers: {system:
        {dataset: {decoding: {seed: [text, score] in the order of the prompts}}}}}; the score is of the whole answer.
    """
    place = {
        (dataset, example.id): index
        for dataset, rows in examples.items()
        for index, example in enumerate(rows[:prompts])
    }
    decodings: dict[str, set[int]] = {}
    answers: dict[str, dict] = {}
    scored: dict[tuple, float] = {}
    for system, rows in generations.items():
        own = answers.setdefault(system, {})
        for row in rows:
            dataset, decoding, seed = row["dataset"], row["decoding"], row["seed"]
            index = place.get((dataset, row["id"]))
            if index is not None:
                decodings.setdefault(decoding, set()).add(seed)
                cell = own.setdefault(dataset, {}).setdefault(decoding, {})
                texts = cell.setdefault(seed, [None] * min(prompts, len(examples[dataset])))
                answer = dataset, index, clean_response(row["response"]), row["finished"]
                if answer not in scored:
                    metric, references = load_metric(metrics[dataset]), examples[dataset][index].references
                    scored[answer] = round(metric.of(answer[2], references, row["finished"]), 1)
                texts[index] = [_cut(row["response"]), scored[answer]]
    return {
        "limits": {"prompts": prompts, "characters": CHARACTERS},
        "systems": list(answers),
        "decodings": {decoding: sorted(seeds) for decoding, seeds in decodings.items()},
        "datasets": {
            dataset: {
                "total": len(rows),
                "metric": load_metric(metrics[dataset]).title,
                "prompts": [
                    {
                        "instruction": _cut(example.instruction),
                        "input": _cut(example.input),
                        "references": [_cut(text) for text in example.references],
                    }
                    for example in rows[:prompts]
                ],
            }
            for dataset, rows in examples.items()
            if prompts
        },
        "answers": answers,
    }


def shown_verdicts(
    verdicts: Mapping[str, Iterable[Mapping]],
    win_rates: Table,
    examples: Mapping[str, Sequence[Example]],
    prompts: int,
) -> list[dict[str, Any]]:
    """Returns what the page shows of the judge's verdicts beside the answers.

    Args:
        verdicts: rows of each pair's verdicts.jsonl, by SYSTEM-OPPONENT.
        win_rates: win_rates.csv, which says what was judged.
        examples: the evaluation sets by name.
        prompts: how many of each set the page shows.

    Returns:
        Of each pair {system, opponent, dataset, decoding, seed, words: in the order of the prompts}.
    """
    found = []
    for row in win_rates:
        winners: dict[str, set[str | None]] = {}
        for verdict in verdicts.get(f"{row['system']}-{row['opponent']}", ()):
            winners.setdefault(verdict["id"], set()).add(verdict["winner"])
        words = {row["system"]: "wins", row["opponent"]: "loses", "tie": "ties", None: "has no verdict"}
        shown = examples.get(row["dataset"], ())[:prompts]
        told = [winners.get(example.id, {None}) for example in shown]
        about: dict[str, Any] = {name: row[name] for name in ("system", "opponent", "dataset", "decoding", "seed")}
        found.append(
            about | {"words": [words[next(iter(one))] if len(one) == 1 else "wins in one order" for one in told]}
        )
    return found


def _first(outcome: Outcome, systems: Sequence[str]) -> list[str]:
    """Returns the systems with those first whose answers are shown first: the main run and the best baseline."""
    main, scores = outcome.main(), outcome.tables["scores"]
    best = outcome.best(outcome.baselines, scores[0]["dataset"], scores[0]["decoding"]) if scores else None
    names = (main[0] if main else "", best or "", *systems)
    return [*dict.fromkeys(name for name in names if name in systems)]


def _records(outcome: Outcome, tables_folder: str) -> dict[str, str]:
    """Returns, by recipe, the record behind its scores; the tables' where several training seeds are averaged."""
    members: dict[str, set[str]] = {}
    for row in outcome.tables["scores"]:
        members.setdefault(outcome.recipe(row["system"]), set()).add(row["system"])
    folders = {name: f"scores/{name}" if len(own) == 1 else tables_folder for name, own in members.items()}
    return {name: f"{folder}.prov.json" for name, folder in folders.items()}


def build_page(
    tables: Mapping[str, Table],
    figures: Mapping[str, bytes],
    answers: Mapping[str, Any],
    settings: RenderReport,
    folders: tuple[str, str],
    verdicts: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Returns the report as one HTML text.

    Args:
        tables: the CSV tables by name; empty ones are left out.
        figures: SVG files by name, in any order.
        answers: of `sample_answers`.
        settings: what the page says of the study.
        folders: where the tables and the figures lie, as seen from the page.
        verdicts: of `shown_verdicts`.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "json": _json, "csp": _csp, "breakable": _breakable}
    tables_folder, figures_folder = folders
    notes = page_words.PAPER_FIGURES if _paper(settings) else {}
    outcome = Outcome(tables, settings.recipes)
    shown_tables = [name for name in tables if tables[name] and (_paper(settings) or not TABLES[name].of_paper)]
    judges = (row["judge"] for row in tables["win_rates"])
    words = metric_words([], tables) | {"dev": metric_words(tables["selection"], tables)["score"]}
    shown = [
        {
            "name": name,
            "title": worded(title, words),
            "caption": worded(f"{caption} {notes.get(name, '')}", words),
            "svg": inline(figures[name], name, worded(f"{title}. {alt}", words)),
        }
        for name, (title, alt, caption) in page_words.FIGURES.items()
        if name in figures
    ]
    return environment.get_template("page.html").render(
        title=settings.title,
        embedded=settings.embedded,
        statement=captions.EMBEDDED if settings.embedded else captions.STUDY,
        systems_note=captions.SYSTEMS,
        findings=findings(outcome),
        scores=words["scores"],
        print_rows=PRINT_ROWS,
        grids=grids(outcome),
        grid_note=page_words.GRID,
        grid_records=_records(outcome, tables_folder),
        artifacts=("tables.md", f"{tables_folder}/", f"{figures_folder}/", "report.html"),
        limits=limits(judges, (row["metric"] for row in tables["scores"]), settings.deepspeed, settings.sampling),
        figures=shown,
        formats=FORMATS,
        figures_folder=figures_folder,
        tables=[_table(name, tables, settings) for name in shown_tables],
        tables_note=page_words.COLUMNS,
        tables_folder=tables_folder,
        answers={**answers, "systems": _first(outcome, answers["systems"]), "verdicts": [*verdicts]},
        system_folders=settings.folders,
        config=yaml.safe_dump(settings.config, sort_keys=False, allow_unicode=True, width=100),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )
