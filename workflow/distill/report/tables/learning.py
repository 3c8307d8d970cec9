"""Each run's own objective on the teacher's samples of held-out prompts, before training, at the selected and at the
last update, and the paired change since update 0 with its 95% bootstrap interval over prompts (a prompt's samples
averaged first). Lower is learnt. `linear` is the objective without the chi-square term; for the sampled objective it
is -log of the student projected onto the candidate set. Values of different objectives are not comparable, changes
of one are. `student_outside` and `teacher_outside` are the mean masses that either model gives to all tokens outside
the candidate sets; distillation is to bring the first to the second. `along_teacher` and `along_start` are the
objective of `gkd` and `distillm` along the teacher's sample and along the answer of the run's start, whose mean
`objective` is. Of `tgpo`, `grpo`, `kdrl` and `rkl` the objective is minus the share of right answers to dev prompts;
`reverse_kl` is the mean of log q - log p along the student's own answers, and `mismatch` the share of its tokens that
are not the teacher's likeliest.
Of methods on preference pairs it is DPO's loss on the dev pairs, whatever they minimise; `margin`
is log q / start of the chosen minus that of the rejected response in nats, `implicit_accuracy` how often it is above 0,
and `ranking` how often log q alone is higher for the chosen response; of these three higher is learnt.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean

from distill.checkpoints import DEV_ITEMS
from distill.config.slices.make_tables import MakeTables
from distill.errors import DataError
from distill.evaluation.statistics import paired_bootstrap
from distill.report.differences import change
from distill.report.evidence import COMPUTED, Evidence, Source
from distill.report.markdown import Cell, Part, fixed, fold_long, grid, number, show
from distill.report.markdown import change as change_text
from distill.report.measured import Rows, Study
from distill.report.table import Table, View

LEARNT = {"objective": "loss"} | {
    name: name
    for name in (
        *("linear", "student_outside", "teacher_outside"),
        *("along_teacher", "along_start"),
        *("reverse_kl", "mismatch"),
        *("margin", "implicit_accuracy", "ranking"),
    )
}
"""Quantities with their keys in dev_items.jsonl; a method may lack one."""


def learning_rows(run: str, items: Rows, selected: int, seed: int) -> Iterator[dict]:
    """Yields the held-out objective, its linear part and the masses outside the sets at update 0, at the selected and
    at the last update.

    Later values come with their paired difference to update 0 and its 95% bootstrap interval over prompts; the samples
    of a prompt are averaged first, since they are not independent.

    Args:
        run: the run's name.
        items: rows {step, id, sample, loss, linear, ...} of dev_items.jsonl.
        selected: the selected update.
        seed: of the bootstrap.

    Raises:
        DataError: an update has no rows, or two updates have rows of different prompts.
    """
    for quantity, key in ((name, key) for name, key in LEARNT.items() if key in items[0]):
        samples: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in items:
            samples[row["step"]][row["id"]].append(row[key])
        means = {step: {id_: fmean(values) for id_, values in group.items()} for step, group in samples.items()}
        for at, update in (("start", 0), ("selected", selected), ("last", max(means))):
            if update not in means:
                raise DataError(
                    f"{run}: expected held-out rows of update {update} in dev_items.jsonl, found none; rerun train_run"
                )
            columns = dict.fromkeys(("difference", "lo", "hi", "verdict")) | {"prompts": len(means[update])}
            if at != "start":
                columns = change(paired_bootstrap(means[update], means[0], seed))
            mean = fmean(means[update].values())
            yield {"run": run, "quantity": quantity, "at": at, "update": update, "mean": mean} | columns


def _rows(study: Study) -> Iterator[dict]:
    for run, items in study.measured.dev_items.items():
        if items:
            yield from learning_rows(run, items, study.selected[run], study.settings.seed)


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    run, what = row["run"], "held-out objective by teacher sample"
    updates = sorted({int(row["update"]), *([0] if column in ("difference", "lo", "hi") else [])})
    sources = [Source("runs", run, DEV_ITEMS, f"{what}, update {update}", {"step": update}) for update in updates]
    return Evidence(COMPUTED, sources, runs=[run])


def _mean_at(row: Mapping[str, str]) -> str:
    return f"{fixed(row['mean'], 3)} (update {row['update']})"


def _markdown(view: View) -> list[Part]:
    header = ["run", "quantity", "prompts", "update 0", "selected", "change to selected", "last", "change to last"]
    groups: dict[tuple[str, str], dict] = {}
    for row in view.rows:
        groups.setdefault((row["run"], row["quantity"]), {})[row["at"]] = row
    body: list[list[str | Cell]] = []
    for key, at in groups.items():
        body.append([*key, show(lambda row: row["prompts"], at["start"]), show(number("mean", 3), at["start"])])
        for name in ("selected", "last"):
            body[-1] += [show(_mean_at, at[name]), show(lambda row: change_text(row, 3), at[name])]
    return [*view.head(), *fold_long(grid(header, body))]


TABLE = Table(
    order=150,
    title="Learning on held-out prompts",
    columns=("run", "quantity", "at", "update", "mean", "difference", "lo", "hi", "prompts", "verdict"),
    keys=("run", "quantity", "at"),
    rows=_rows,
    evidence=_evidence,
    markdown=_markdown,
)
