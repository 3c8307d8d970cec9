"""The tables for people: Markdown from the CSV tables. Numbers are rounded here and nowhere else."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from distill.config.sampling import Decoding
from distill.config.stages.report import RenderTables
from distill.report import captions

Table = Sequence[Mapping[str, str]]


def fixed(value: str, digits: int = 1, sign: bool = False) -> str:
    """Returns a CSV cell's number with so many decimals; an empty cell stays empty."""
    return f"{float(value):{'+' if sign else ''}.{digits}f}" if value else ""


def percent(value: str) -> str:
    """Returns a share in [0, 1] as a percentage."""
    return f"{100 * float(value):.1f}%"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table with aligned columns: the first one to the left, numbers to the right."""
    rows = [list(header), *map(list, rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(header))]
    lines = [
        "| "
        + " | ".join(
            f"{cell:{'>' if i else '<'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def describe(name: str, decoding: Decoding, primary: bool) -> str:
    """Returns a decoding's name with its settings, as headings say it."""
    how = (
        "temperature 0"
        if decoding.temperature == 0
        else f"temperature {decoding.temperature:g}, top-p {decoding.top_p:g}"
    )
    return f"{name} ({how}{', primary' if primary else ''})"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _pivot(rows: Table, keys: Sequence[str], cell: Callable[[Mapping[str, str]], str], heads: Mapping[str, str]) -> str:
    """Returns a table with one row a combination of `keys` and one column a dataset."""
    grid: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        grid.setdefault(tuple(row[key] for key in keys), {})[row["dataset"]] = cell(row)
    return markdown([*keys, *heads.values()], ([*key, *(cells[name] for name in heads)] for key, cells in grid.items()))


def _rouge_cell(row: Mapping[str, str]) -> str:
    return f"{fixed(row['mean'])} ± {fixed(row['std'])} ({row['seeds']} seeds)" if row["std"] else fixed(row["mean"])


def _interval(row: Mapping[str, str], digits: int = 1) -> str:
    return f"[{fixed(row['lo'], digits, True)}, {fixed(row['hi'], digits, True)}]"


def _change(row: Mapping[str, str], digits: int) -> str:
    return f"{fixed(row['difference'], digits, True)} {_interval(row, digits)} {row['verdict']}"


def _rouge(tables: Mapping[str, Table], settings: RenderTables) -> list[str]:
    primary = next(iter(settings.decodings))
    parts = ["## Rouge-L", captions.ROUGE]
    heads = {row["dataset"]: f"{row['dataset']} ({row['prompts']} prompts)" for row in tables["rouge"]}
    for name, decoding in settings.decodings.items():
        rows = [row for row in tables["rouge"] if row["decoding"] == name]
        parts += [
            f"### Rouge-L, {describe(name, decoding, name == primary)}",
            _pivot(rows, ["system"], _rouge_cell, heads),
        ]
    return parts


def _comparisons(rows: Table, primary: str) -> list[str]:
    rows = [row for row in rows if row["decoding"] == primary]
    heads = {row["dataset"]: f"{row['dataset']} ({row['prompts']} prompts)" for row in rows}
    return [
        f"## Comparisons, {primary}",
        captions.COMPARISONS + " Other decodings are in the CSV.",
        _pivot(rows, ["system", "baseline"], lambda row: _change(row, 1), heads),
    ]


def _quality(tables: Mapping[str, Table], primary: str) -> list[str]:
    rouge = {(row["system"], row["dataset"]): row["mean"] for row in tables["rouge"] if row["decoding"] == primary}
    rows = [row for row in tables["quality"] if row["decoding"] == primary]
    parts = [f"## Quality of the answers, {primary}", captions.QUALITY]
    header = ["system", "Rouge-L", "tokens", "finished", "distinct-1", "distinct-2", "exact match", "entropy"]
    for dataset in _unique(row["dataset"] for row in rows):
        body = (
            [
                row["system"],
                fixed(rouge[row["system"], dataset]),
                fixed(row["mean_tokens"]),
                percent(row["finished"]),
                fixed(row["distinct_1"], 3),
                fixed(row["distinct_2"], 3),
                fixed(row["exact_match"]),
                fixed(row["entropy"], 2),
            ]
            for row in rows
            if row["dataset"] == dataset
        )
        parts += [f"### {dataset}", markdown(header, body)]
    return parts


def _candidates(rows: Table) -> list[str]:
    header = ["p", "states", "median size", "mean size", "singletons", "p_eff", "out of set"]
    body = (
        [
            row["p"],
            row["states"],
            f"{float(row['median_size']):g}",
            fixed(row["mean_size"], 2),
            percent(row["singletons"]),
            fixed(row["p_eff"], 3),
            percent(row["out_of_set"]),
        ]
        for row in rows
    )
    caption = captions.CANDIDATES.format(entropy=fixed(rows[0]["teacher_entropy"], 2))
    return ["## Candidate sets of the teacher", caption, markdown(header, body)]


def _learning(rows: Table) -> list[str]:
    header = ["run", "quantity", "prompts", "update 0", "selected", "change to selected", "last", "change to last"]
    groups: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["run"], row["quantity"]), {})[row["at"]] = row
    body = []
    for (run, quantity), at in groups.items():
        cells = [run, quantity, at["start"]["prompts"], fixed(at["start"]["mean"], 3)]
        for name in ("selected", "last"):
            cells += [f"{fixed(at[name]['mean'], 3)} (update {at[name]['update']})", _change(at[name], 3)]
        body.append(cells)
    return ["## Learning on held-out prompts", captions.LEARNING, markdown(header, body)]


def _win_rates(rows: Table) -> list[str]:
    header = ["system", "against", "prompts", "win rate", "wins", "ties", "losses", "consistent", "unparsable"]
    parts = ["## Win rates", captions.WIN_RATES]
    for judge in _unique(row["judge"] for row in rows):
        own = [row for row in rows if row["judge"] == judge]
        body = (
            [
                row["system"],
                row["opponent"],
                row["prompts"],
                f"{percent(row['win_rate'])} [{percent(row['lo'])}, {percent(row['hi'])}]",
                *(percent(row[name]) for name in ("wins", "ties", "losses", "consistency")),
                row["unparsable"],
            ]
            for row in own
        )
        where = f"Answers to {own[0]['dataset']}, {own[0]['decoding']}, seed {own[0]['seed']}."
        named = captions.OVERLAP if judge == captions.OVERLAP_JUDGE else f"**Judge: {judge}.**"
        parts += [f"{named} {where}", markdown(header, body)]
    return parts


def _selection(rows: Table) -> list[str]:
    header = ["run", "rule", "candidates", "chosen update", "dev loss", "dev Rouge-L"]
    body = (
        [
            row["run"],
            row["rule"],
            str(sum(other["run"] == row["run"] for other in rows)),
            row["update"],
            fixed(row["dev_loss"], 3),
            fixed(row["dev_rouge"]),
        ]
        for row in rows
        if row["chosen"] == "yes"
    )
    return ["## Selected checkpoints", captions.SELECTION, markdown(header, body)]


def _training(rows: Table) -> list[str]:
    header = ["run", "method", "updates", "sequences", "tokens", "gradient norm", "final dev loss", "tokens/s"]
    header += ["s to selected", "s in total"]
    body = (
        [
            row["run"],
            row["method"],
            row["updates"],
            row["sequences"],
            f"{int(row['tokens']):,}",
            fixed(row["mean_gradient_norm"], 2),
            fixed(row["final_dev_loss"], 3),
            *(fixed(row[name], 0) for name in ("tokens_per_second", "seconds_to_selected", "seconds")),
        ]
        for row in rows
    )
    return ["## Training", captions.TRAINING, markdown(header, body)]


def _limits(rows: Table, settings: RenderTables) -> list[str]:
    items = list(captions.LIMITS)
    stages = (
        ("Training", settings.deepspeed.device, settings.deepspeed.precision, "fp32"),
        (f"Sampling with {settings.sampling.engine}", settings.sampling.device, settings.sampling.dtype, "float32"),
    )
    inexact = [
        captions.INEXACT.format(stage=stage, device=device, arithmetic=arithmetic)
        for stage, device, arithmetic, exact in stages
        if (device, arithmetic) != ("cpu", exact)
    ]
    items += inexact or [captions.EXACT]
    judges = _unique(row["judge"] for row in rows)
    items += [captions.CHAT_JUDGE.format(judge=judge) for judge in judges if judge != captions.OVERLAP_JUDGE]
    return ["## Not comparable, or not reproducible bit for bit", "\n".join(f"- {item}" for item in items)]


def render(tables: Mapping[str, Table], settings: RenderTables, folder: str) -> str:
    """Returns the page.

    Args:
        tables: the CSV tables by name.
        settings: title and what the page says of the study.
        folder: where the CSV files lie, as seen from the page.
    """
    primary = next(iter(settings.decodings))
    statement = captions.EMBEDDED if settings.embedded else captions.STUDY
    sections = {
        "rouge": _rouge(tables, settings),
        "comparisons": _comparisons(tables["comparisons"], primary),
        "quality": _quality(tables, primary),
        "candidate_sets": _candidates(tables["candidate_sets"]) if tables["candidate_sets"] else [],
        "learning": _learning(tables["learning"]) if tables["learning"] else [],
        "win_rates": _win_rates(tables["win_rates"]) if tables["win_rates"] else [],
        "selection": _selection(tables["selection"]) if tables["selection"] else [],
        "training": _training(tables["training"]) if tables["training"] else [],
    }
    parts = [f"# {settings.title}", statement, captions.SYSTEMS]
    for name, section in sections.items():
        names = [name, "rouge_seeds"] if name == "rouge" else [name]
        links = ", ".join(f"[{file}.csv]({folder}/{file}.csv)" for file in names)
        parts += [*section, f"Full precision: {links}"] if section else []
    parts += _limits(tables["win_rates"], settings)
    return "\n\n".join(parts) + "\n"
