"""All tables of a study from what it measured: make_tables writes them, an audit computes them again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.config.stages.report import MakeTables
from distill.report import ablations, claims, tables
from distill.report.tables import Rows


@dataclass(frozen=True)
class Measured:
    """What the tables are computed from; the runs are the systems that the study trained itself.

    Attributes:
        seeds: rows of seeds.jsonl by system.
        prompts: rows of prompts.jsonl by system.
        entropies: entropy.json by system.
        sets: statistics of the candidate sets; None where there are none.
        metrics: rows of metrics.jsonl by run.
        dev: rows of dev.jsonl by run.
        dev_items: rows of dev_items.jsonl by run, empty for methods that write none.
        data_seen: data_seen.json by run.
        selections: selection.json by run.
        shared: hours that were spent once for all runs, by what they were spent on.
        win_rates: win_rate.json of every judged pair.
    """

    seeds: Mapping[str, Rows]
    prompts: Mapping[str, Rows]
    entropies: Mapping[str, Mapping[str, float]]
    sets: Mapping | None
    metrics: Mapping[str, Rows]
    dev: Mapping[str, Rows]
    dev_items: Mapping[str, Rows]
    data_seen: Mapping[str, Mapping]
    selections: Mapping[str, Mapping]
    shared: Mapping[str, float]
    win_rates: Sequence[Mapping]


def table_rows(measured: Measured, settings: MakeTables) -> dict[str, Iterable[dict]]:
    """Returns the rows of every table by its name, most of them computed as they are taken.

    Raises:
        DataError: a system has no scores of a set in a decoding.
    """
    seeds, prompts = (tables.by_cell(rows, settings) for rows in (measured.seeds, measured.prompts))
    by_prompt, selections, sets = tables.prompt_scores(prompts), measured.selections, measured.sets
    selected = {run: selection["update"] for run, selection in selections.items()}
    training = [
        tables.training_row(run, settings.systems[run], measured.metrics[run], measured.dev[run], selected[run])
        for run in selections
    ]
    dev_rouge = {run: selection["scores"][str(selected[run])].get("dev_rouge") for run, selection in selections.items()}
    evidence = claims.Evidence(
        settings,
        by_prompt,
        {row["run"]: row for row in training},
        3600 * sum(measured.shared.values()) if len(measured.shared) == 2 else None,
        sets.get("sorted_mass", []) if sets else [],
    )
    learning = (
        row
        for run, items in measured.dev_items.items()
        if items
        for row in tables.learning_rows(run, items, selected[run], settings.seed)
    )
    return {
        "rouge": tables.rouge_rows(seeds, settings),
        "data_seen": tables.data_seen_rows(measured.data_seen, seeds, settings),
        "rouge_seeds": tables.rouge_seed_rows(seeds),
        "training_seeds": tables.training_seed_rows(seeds, settings),
        "claims": claims.claim_rows(evidence),
        "comparisons": tables.comparison_rows(by_prompt, settings),
        "pairs": tables.pair_rows(by_prompt, settings),
        "quality": tables.quality_rows(seeds, measured.entropies, next(iter(settings.decodings))),
        "p_study": ablations.p_rows(seeds, settings),
        "chi_square": ablations.chi_square_rows(seeds, settings),
        "ablations": ablations.ablation_rows(seeds, by_prompt, measured.entropies, dev_rouge, settings),
        "hours": tables.hours_rows(training, measured.shared, settings),
        "candidate_sets": tables.candidate_rows(sets) if sets else [],
        "sorted_mass": tables.sorted_mass_rows(sets) if sets else [],
        "learning": learning,
        "win_rates": tables.win_rate_rows(measured.win_rates, [*settings.systems]),
        "selection": tables.selection_rows(selections),
        "training": training,
    }
