"""The tables for people: Markdown from the CSV tables. Numbers are rounded here and nowhere else."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from distill.config.sampling import Decoding
from distill.config.stages.report import RenderTables
from distill.evaluation.p_values import bound
from distill.report import captions
from distill.report.limits import limits
from distill.report.shared_data import shared_data

Table = Sequence[Mapping[str, str]]
Tables = Mapping[str, Table]
LONG = 24
"""Rows above which a table is folded."""
SHOWN_K = (1, 2, 3, 5, 7, 10, 20, 50)


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


def folded(summary: str, *parts: str) -> str:
    """Returns parts of the page behind a line that opens them."""
    return "\n\n".join([f"<details>\n<summary>{summary}</summary>", *parts, "</details>"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table, folded if it is long."""
    rows = [*rows]
    text = markdown(header, rows)
    return folded(f"{len(rows)} rows", text) if len(rows) > LONG else text


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


def _heads(rows: Table) -> dict[str, str]:
    return {row["dataset"]: f"{row['dataset']} ({row['prompts']} prompts)" for row in rows}


def _grid(rows: Table, keys: Sequence[str]) -> dict[tuple[str, ...], dict[str, Mapping[str, str]]]:
    """Returns the rows by their keys and by dataset."""
    grid: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
    for row in rows:
        grid.setdefault(tuple(row[key] for key in keys), {})[row["dataset"]] = row
    return grid


def _pivot(rows: Table, keys: Sequence[str], cell: Callable[[Mapping[str, str]], str]) -> str:
    """Returns a table with one row a combination of `keys` and one column a dataset."""
    heads = _heads(rows)
    body = ([*key, *(cell(cells[name]) for name in heads)] for key, cells in _grid(rows, keys).items())
    return table([*(key.replace("_", " ") for key in keys), *heads.values()], body)


def _spread(row: Mapping[str, str]) -> str:
    return f"{fixed(row['mean'])} ± {fixed(row['std'])} ({row['seeds']} seeds)" if row["std"] else fixed(row["mean"])


def _paper(row: Mapping[str, str]) -> str:
    marks = ("†" if row.get("paper_origin") == "MiniLLM" else "") + ("‡" if row.get("paper_note") else "")
    return fixed(row["paper"]) + marks if row["paper"] else "n/a"


def _beside_paper(rows: Table, keys: Sequence[str]) -> str:
    """Returns Rouge-L by dataset, each column followed by the paper's where it has a number."""
    heads = _heads(rows)
    published = {row["dataset"] for row in rows if row["paper"]}
    header = [key.replace("_", " ") for key in keys]
    for name, head in heads.items():
        header += [head, "paper"] if name in published else [head]
    body = []
    for key, cells in _grid(rows, keys).items():
        line = [*key]
        for name in heads:
            line += [_spread(cells[name]), _paper(cells[name])] if name in published else [_spread(cells[name])]
        body.append(line)
    return markdown(header, body)


def _interval(row: Mapping[str, str], digits: int = 1) -> str:
    return f"[{fixed(row['lo'], digits, True)}, {fixed(row['hi'], digits, True)}]"


def _change(row: Mapping[str, str], digits: int) -> str:
    return f"{fixed(row['difference'], digits, True)} {_interval(row, digits)} {row['verdict']}"


def _compared(row: Mapping[str, str]) -> str:
    return f"{_change(row, 1)}, p {_p(row)}"


def _p(row: Mapping[str, str]) -> str:
    """Returns a row's adjusted p-value; where no resample was on the other side of 0 it is an upper bound."""
    p = float(row["p_adjusted"])
    return bound(p, int(row["tests"])) or ("< 0.001" if p < 0.001 else f"{p:.3f}")


def _further_seeds(rows: Table) -> set[str]:
    """Returns the systems of further training seeds."""
    first: dict[str, str] = {}
    return {
        row["system"] for row in rows if first.setdefault(row["student"], row["training_seed"]) != row["training_seed"]
    }


def _shown(tables: Tables, name: str, primary: str) -> Table:
    """Returns a table's rows of the primary decoding and the first training seeds; the CSV has all."""
    further = _further_seeds(tables["rouge"])
    return [row for row in tables[name] if row["decoding"] == primary and row["system"] not in further]


def _rouge(tables: Tables, settings: RenderTables) -> list[str]:
    primary = next(iter(settings.decodings))
    further = _further_seeds(tables["rouge"])
    parts = ["## Rouge-L", captions.ROUGE]
    parts += [captions.PAPER] if any(row["paper"] for row in tables["rouge"]) else []
    for name, decoding in settings.decodings.items():
        rows = [row for row in tables["rouge"] if row["decoding"] == name]
        title = f"Rouge-L, {describe(name, decoding, name == primary)}"
        main = _beside_paper([row for row in rows if row["system"] not in further], ["system"])
        parts += [f"### {title}", main] if name == primary else [folded(title, main)]
        if name == primary and further:
            others = _beside_paper([row for row in rows if row["system"] in further], ["system"])
            parts.append(folded(f"{title}, further training seeds", others))
    return parts


def _data_seen(tables: Tables) -> list[str]:
    rows, further = tables["data_seen"], _further_seeds(tables["rouge"])
    header = ["system", "start", "dropout", "prompts", "responses", "labelled rows", "sequences", "updates"]
    names = [name.replace(" ", "_") for name in header]
    body = ([*(row[name] for name in names), fixed(row["rouge"])] for row in rows if row["system"] not in further)
    head = f"Rouge-L, {rows[0]['dataset']}, {rows[0]['decoding']}"
    return ["## Data seen", captions.DATA_SEEN, shared_data(rows), table([*header, head], body)]


def _training_seeds(tables: Tables, primary: str) -> list[str]:
    def cell(row: Mapping[str, str]) -> str:
        sampling = f"; {fixed(row['std_sampling'])} over sampling" if row["std_sampling"] else ""
        return f"{fixed(row['mean'])} ± {fixed(row['std_training'])} ({row['training_seeds']} seeds{sampling})"

    rows = [row for row in tables["training_seeds"] if row["decoding"] == primary]
    return [f"## Training seeds, {primary}", captions.TRAINING_SEEDS, _pivot(rows, ["system"], cell)]


def _claim_cell(row: Mapping[str, str]) -> str:
    if row["quantity"] == "mass":
        return f"{percent(row['figure'])}: {row['verdict']}"
    is_ratio = row["quantity"] == "time ratio"
    bounds = f" [{fixed(row['lo'])}, {fixed(row['hi'])}]" if is_ratio and row["lo"] else ""
    bounds = bounds if is_ratio else f" {_interval(row)}"
    return f"{fixed(row['figure'], 1, not is_ratio)}{bounds}: {row['verdict']}"


def _claims(tables: Tables, settings: RenderTables) -> list[str]:
    decodings, dataset = [*settings.decodings], tables["rouge"][0]["dataset"]
    parts = ["## The paper's claims", f"{captions.CLAIMS} Further sets are in the CSV."]
    parts += [captions.CLAIMS_EMBEDDED] if settings.embedded else []
    keys = ["claim", "system", "against"] if settings.embedded else ["claim", "paper", "system", "against"]
    rows = [row for row in tables["claims"] if row["dataset"] in ("", dataset)]
    for student, objective in _unique((row["student"], row["objective"]) for row in rows):
        own = [row for row in rows if (row["student"], row["objective"]) == (student, objective)]
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for row in own:
            if row["figure"]:
                cells = lines.setdefault(tuple(row[key] for key in keys), {})
                cells[row["decoding"] or decodings[0]] = _claim_cell(row)
        body = [[*key, *(cells.get(name, "") for name in decodings)] for key, cells in lines.items()]
        named = f"Objective {objective}, {student}, {dataset}" if objective else "The teacher"
        missing: dict[str, list[str]] = {}
        for row in own:
            # What an update takes stands in the reason.
            if not row["figure"] or row["quantity"] == "time ratio":
                missing.setdefault(f"{row['verdict'].capitalize()}, {row['reason']}", []).append(row["claim"])
        parts.append(f"### {named}")
        parts += [markdown([*keys, *decodings], body)] if body else []
        parts += (
            ["\n".join(f"- {why}: {'; '.join(_unique(what))}." for why, what in missing.items())] if missing else []
        )
    return parts


def _comparisons(tables: Tables, primary: str) -> list[str]:
    rows = [row for row in tables["comparisons"] if row["decoding"] == primary]
    parts = [f"## Comparisons, {primary}", captions.COMPARISONS + " Other decodings are in the CSV."]
    further = _further_seeds(tables["rouge"])
    for is_further in (False, True):
        own = [row for row in rows if (row["baseline"] in further) is is_further]
        if own:
            text = _pivot(own, ["system", "baseline"], _compared)
            parts.append(folded("Further training seeds", text) if is_further else text)
    return parts


def _pairs(tables: Tables) -> list[str]:
    def cell(row: Mapping[str, str]) -> str:
        difference = fixed(row["difference"], 1, True)
        return f"{difference if row['verdict'] == 'undecided' else f'**{difference}**'} ({_p(row)})"

    parts = ["## Decided pairs", captions.PAIRS]
    for student in _unique(row["student"] for row in tables["pairs"]):
        own = [row for row in tables["pairs"] if row["student"] == student]
        cells = {(row["system"], row["other"]): cell(row) for row in own}
        names = _unique(row["other"] for row in own)
        body = (
            [name, *(cells.get((name, other), "") for other in names)] for name in _unique(row["system"] for row in own)
        )
        decided = sum(row["verdict"] != "undecided" for row in own)
        where = f"{own[0]['dataset']}, {own[0]['prompts']} prompts, {own[0]['decoding']}"
        parts += [f"{student}: {decided} of {len(own)} pairs are decided ({where}).", table(["system", *names], body)]
    return parts


def _quality(tables: Tables, primary: str) -> list[str]:
    rouge = {(row["system"], row["dataset"]): row["mean"] for row in tables["rouge"] if row["decoding"] == primary}
    rows = _shown(tables, "quality", primary)
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
        text = markdown(header, body)
        parts += [f"### {dataset}", text] if dataset == rows[0]["dataset"] else [folded(dataset, text)]
    return parts


def _p_study(tables: Tables, primary: str) -> list[str]:
    rows = _shown(tables, "p_study", primary)
    return [f"## p, {primary}", captions.P_STUDY, _beside_paper(rows, ["system", "p", "clip_scope"])]


def _chi_square(tables: Tables, primary: str) -> list[str]:
    rows = _shown(tables, "chi_square", primary)
    return [f"## Chi-square term, {primary}", captions.CHI_SQUARE, _beside_paper(rows, ["system", "chi2"])]


def _ablations(tables: Tables, primary: str) -> list[str]:
    def over(row: Mapping[str, str], key: str) -> str:
        bounds = {name: row[f"{key}_{name}"] for name in ("lo", "hi")}
        return f"{fixed(row[key], 1, True)} {_interval(bounds)}" if row[key] else ""

    dataset = tables["ablations"][0]["dataset"]
    header = ["system", "objective", "p", "clip scope", "chi-square", "plain text", "dev", "Rouge-L"]
    header += ["over phase1", "over SeqKD", "entropy", "tokens"]
    body = (
        [
            row["system"],
            row["objective"] + (", remainder" if row["remainder"] == "with" else ""),
            row["p"],
            row["clip_scope"],
            {"with": f"alpha {row['alpha']}", "centred": f"centred, alpha {row['alpha']}"}.get(row["chi2"], "without"),
            row["plain_text_weight"],
            fixed(row["dev_rouge"]),
            fixed(row["rouge"])
            + (f" ± {fixed(row['rouge_std'])} ({row['training_seeds']} seeds)" if row["rouge_std"] else ""),
            over(row, "over_phase1"),
            over(row, "over_seqkd"),
            fixed(row["entropy"], 2),
            fixed(row["mean_tokens"]),
        ]
        for row in tables["ablations"]
        if (row["dataset"], row["decoding"]) == (dataset, primary)
    )
    caption = f"{captions.ABLATIONS} Other sets and decodings are in the CSV."
    return [f"## Bellman Distill's options, {dataset}, {primary}", caption, table(header, body)]


def _hours(tables: Tables) -> list[str]:
    rows = tables["hours"]
    header = ["cost", "system", "hours", "processes", "device hours"]
    has_paper = any(row["paper_hours"] for row in rows)
    body = []
    for row in rows:
        hours, device_hours = (f"{float(row[name]):.2g}" for name in ("hours", "device_hours"))
        line = [row["cost"], row["system"], hours, row["processes"], device_hours]
        paper = f"{row['paper_hours']} ({row['paper_hardware']})" if row["paper_hours"] else "n/a"
        body.append([*line, paper] if has_paper else line)
    return ["## Hours", captions.HOURS, table([*header, "paper"] if has_paper else header, body)]


def _candidates(tables: Tables) -> list[str]:
    rows = tables["candidate_sets"]
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
    caption = captions.CANDIDATES.format(
        entropy=fixed(rows[0]["teacher_entropy"], 2), size=fixed(rows[0]["bytes_per_token"], 0)
    )
    return ["## Candidate sets of the teacher", caption, markdown(header, body)]


def _sorted_mass(tables: Tables) -> list[str]:
    rows = [row for row in tables["sorted_mass"] if int(row["k"]) in SHOWN_K]
    body = [["mass", *(percent(row["mass"]) for row in rows)]]
    return [
        "## Sorted token mass of the teacher",
        captions.SORTED_MASS,
        markdown(["k", *(row["k"] for row in rows)], body),
    ]


def _learning(tables: Tables) -> list[str]:
    rows = tables["learning"]
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
    return ["## Learning on held-out prompts", captions.LEARNING, table(header, body)]


def _win_rates(tables: Tables) -> list[str]:
    rows = tables["win_rates"]
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
        parts += [f"{named} {where}", table(header, body)]
    return parts


def _update(update: str) -> str:
    return f"{update} (the start)" if update == "0" else update


def _selection(tables: Tables) -> list[str]:
    rows = tables["selection"]
    header = ["run", "rule", "candidates", "chosen update", "dev loss", "dev Rouge-L"]
    body = (
        [
            row["run"],
            row["rule"],
            str(sum(other["run"] == row["run"] for other in rows)),
            _update(row["update"]),
            fixed(row["dev_loss"], 3),
            fixed(row["dev_rouge"]),
        ]
        for row in rows
        if row["chosen"] == "yes"
    )
    return ["## Selected checkpoints", captions.SELECTION, table(header, body)]


def _training(tables: Tables) -> list[str]:
    rows = tables["training"]
    header = ["run", "method", "updates", "sequences", "tokens", "gradient norm", "final dev loss"]
    header += ["tokens/s", "s an update", "s in total"]
    body = (
        [
            row["run"],
            row["method"],
            row["updates"],
            row["sequences"],
            f"{int(row['tokens']):,}",
            fixed(row["mean_gradient_norm"], 2),
            fixed(row["final_dev_loss"], 3),
            fixed(row["tokens_per_second"], 0),
            fixed(row["seconds_per_update"], 3),
            fixed(row["seconds"], 0),
        ]
        for row in rows
    )
    return ["## Training", captions.TRAINING, table(header, body)]


def render(tables: Tables, settings: RenderTables, folder: str) -> str:
    """Returns the page; a table without rows has no section.

    Args:
        tables: the CSV tables by name.
        settings: title and what the page says of the study.
        folder: where the CSV files lie, as seen from the page.
    """
    primary = next(iter(settings.decodings))
    sections = {
        "rouge": lambda: _rouge(tables, settings),
        "data_seen": lambda: _data_seen(tables),
        "training_seeds": lambda: _training_seeds(tables, primary),
        "claims": lambda: _claims(tables, settings),
        "comparisons": lambda: _comparisons(tables, primary),
        "pairs": lambda: _pairs(tables),
        "quality": lambda: _quality(tables, primary),
        "p_study": lambda: _p_study(tables, primary),
        "chi_square": lambda: _chi_square(tables, primary),
        "ablations": lambda: _ablations(tables, primary),
        "hours": lambda: _hours(tables),
        "candidate_sets": lambda: _candidates(tables),
        "sorted_mass": lambda: _sorted_mass(tables),
        "learning": lambda: _learning(tables),
        "win_rates": lambda: _win_rates(tables),
        "selection": lambda: _selection(tables),
        "training": lambda: _training(tables),
    }
    parts = [f"# {settings.title}", captions.EMBEDDED if settings.embedded else captions.STUDY, captions.SYSTEMS]
    for name, section in sections.items():
        if tables[name]:
            names = [name, "rouge_seeds"] if name == "rouge" else [name]
            links = ", ".join(f"[{file}.csv]({folder}/{file}.csv)" for file in names)
            parts += [*section(), f"Full precision: {links}"]
    items = limits((row["judge"] for row in tables["win_rates"]), settings.deepspeed, settings.sampling)
    parts += ["## Not comparable, or not reproducible bit for bit", "\n".join(f"- {item}" for item in items)]
    return "\n\n".join(parts) + "\n"
