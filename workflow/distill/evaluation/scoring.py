"""Scores of generated responses: one row a (dataset, decoding, seed), and one a prompt for paired tests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from distill.errors import DataError
from distill.metrics.distinct_n import distinct_n
from distill.metrics.exact_match import exact_match
from distill.metrics.registry import load_metric
from distill.metrics.text import references_of
from distill.records import clean_response


@dataclass(frozen=True)
class Scores:
    """Scores of one run.

    Attributes:
        seeds: rows {dataset, metric, decoding, seed, score, exact_match, mean_tokens, finished, distinct_1, distinct_2,
            n}; score, which is of the set's metric, and exact_match 0 to 100, finished and distinct 0 to 1, n prompts.
        prompts: rows {dataset, metric, decoding, id, score, seeds}: a prompt's mean score over so many seeds.
    """

    seeds: list[dict]
    prompts: list[dict]


def score_generations(
    generations: Iterable[Mapping],
    examples: Mapping[str, Sequence[Mapping]],
    metrics: Mapping[str, str],
    place: str = "generations",
) -> Scores:
    """Scores every response against its example's references.

    Args:
        generations: rows of generations files, of one run.
        examples: each evaluation set's examples, by dataset name.
        metrics: the name of each set's metric, by dataset name.
        place: where the generations come from; the errors begin with it.

    Raises:
        DataError: a set is empty or has an example without reference, a response belongs to no example or comes
            twice, or a (dataset, decoding, seed) misses prompts.
    """
    references: dict[str, dict[str, list[str]]] = {}
    for dataset, rows in examples.items():
        references[dataset] = {row["id"]: references_of(row) for row in rows}
        if not rows:
            raise DataError(
                f"{place}: expected evaluation set {dataset} to have prompts, found none; check its source in data"
            )
        bare = [prompt for prompt, texts in references[dataset].items() if not any(texts)]
        if bare:
            raise DataError(
                f"{place}: expected a reference answer for every prompt of {dataset}, found none for {bare[0]}; "
                "give the set an `output` field or take it out of the config"
            )

    groups: dict[tuple[str, str, int], dict[str, Mapping]] = defaultdict(dict)
    for row in generations:
        dataset, prompt = row["dataset"], row["id"]
        group = groups[dataset, row["decoding"], row["seed"]]
        if prompt not in references.get(dataset, ()) or prompt in group:
            problem = "a second response to" if prompt in group else "a response to unknown"
            raise DataError(
                f"{place}: expected one response to each prompt of {', '.join(references)}, found {problem} prompt "
                f"{prompt} of {dataset} ({row['decoding']}, seed {row['seed']}); delete the file and generate again"
            )
        group[prompt] = row
    for dataset in references.keys() - {key[0] for key in groups}:
        raise DataError(
            f"{place}: expected responses to the {len(references[dataset])} prompts of {dataset}, found none; "
            "generate them again"
        )

    seeds, by_prompt = [], defaultdict(list)
    for (dataset, decoding, seed), group in sorted(groups.items()):
        missing = references[dataset].keys() - group.keys()
        if missing:
            raise DataError(
                f"{place}: expected responses to all {len(references[dataset])} prompts of {dataset} ({decoding}, seed "
                f"{seed}), found {len(missing)} missing, such as {min(missing)}; delete the file and generate again"
            )
        responses = {prompt: clean_response(group[prompt]["response"]) for prompt in references[dataset]}
        metric = load_metric(metrics[dataset])
        scores = {
            prompt: metric.of(response, references[dataset][prompt], group[prompt]["finished"])
            for prompt, response in responses.items()
        }
        for prompt, score in scores.items():
            by_prompt[dataset, decoding, prompt].append(score)
        seeds.append(
            {
                "dataset": dataset,
                "metric": metrics[dataset],
                "decoding": decoding,
                "seed": seed,
                "score": fmean(scores.values()),
                "exact_match": fmean(
                    exact_match(text, references[dataset][prompt]) for prompt, text in responses.items()
                ),
                "mean_tokens": fmean(row["tokens"] for row in group.values()),
                "finished": fmean(row["finished"] for row in group.values()),
                "distinct_1": distinct_n(responses.values(), 1),
                "distinct_2": distinct_n(responses.values(), 2),
                "n": len(group),
            }
        )
    prompts = [
        {"dataset": dataset, "metric": metrics[dataset], "decoding": decoding, "id": prompt}
        | {"score": fmean(scores), "seeds": len(scores)}
        for (dataset, decoding, prompt), scores in by_prompt.items()
    ]
    return Scores(seeds, prompts)
