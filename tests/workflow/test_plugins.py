"""A method outside the package joins the study with one file and two keys of the config."""

import csv

import pytest

METHOD = '''
"""Cross entropy on the teacher's samples with smoothed labels."""

from typing import Literal

from pydantic import Field

from distill.config.runs import Run


class SmoothedRun(Run):
    """Fine-tuning on smoothed labels."""

    method: Literal["smoothed"]
    smoothing: float = Field(0.1, ge=0, lt=1, description="Mass spread over the vocabulary.")

    @property
    def needs(self):
        return frozenset({"teacher_samples"})


def build_task(context):
    from torch.nn.functional import cross_entropy

    from distill.losses.states import autograd_loss
    from distill.losses.terms import LossTerms
    from distill.training.imitation import Imitation, human_responses, teacher_responses

    class Smoothed(Imitation):
        def loss(self, forward, pairs):
            batch = self.pack(pairs)
            smoothing = context.run.smoothing
            total = autograd_loss(
                forward(batch),
                lambda logits, rows: cross_entropy(
                    logits, batch.actions[rows], label_smoothing=smoothing, reduction="sum"
                ),
            )
            return LossTerms(total, total.new_tensor(len(batch.actions)), {"smoothed": total.detach()})

    dev = human_responses(context, context.dev / "examples.jsonl")
    return Smoothed(teacher_responses(context, None), dev, context.device)
'''
RUN = {
    "method": "smoothed",
    "smoothing": 0.2,
    "training": {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3, "evaluate_every": 2},
}


@pytest.fixture
def joined(workplace):
    """The small study with a method of its own, added to the config and not yet run."""
    (workplace.folder / "own").mkdir()
    (workplace.folder / "own" / "smoothed.py").write_text(METHOD)
    workplace.configure({"plugins": ["own/smoothed.py"], "runs.mine": RUN})
    return workplace


def test_a_method_from_outside_is_trained_judged_and_put_into_the_tables(joined):
    mine = {f"{folder}/mine" for folder in ("training", "validation", "models", "generations", "scores")}
    others = {name for name in joined.planned() if "/" in name} - mine
    assert {name.split("-")[0] for name in others} == {"verdicts/mine"}, "nothing that was there before is made again"
    joined.run()
    with open(joined.results / "tables" / "scores.csv", newline="") as file:
        assert "mine" in {row["system"] for row in csv.DictReader(file)}
    assert " mine " in (joined.results / "tables.md").read_text()
    assert '"smoothed/' not in (joined.results / "training/mine/metrics.jsonl").read_text()
    assert '"response/smoothed"' in (joined.results / "training/mine/metrics.jsonl").read_text()

    joined.replace("own/smoothed.py", 'reduction="sum"', 'reduction="sum", ignore_index=-1')
    assert {name for name in joined.planned() if name.startswith("training/")} == {"training/mine"}


def test_a_new_need_is_one_entry_in_one_file_and_reaches_the_task(joined):
    """The task stops and tells what it was handed; only its own run is made."""
    needs, entry = "NEEDS: dict[str, dict[str, str]] = {\n", '    "answers": {"answered": "generations/sft"},\n'
    joined.replace("workflow/distill/methods/needs.py", needs, needs + entry)
    joined.replace("own/smoothed.py", '{"teacher_samples"}', '{"teacher_samples", "answers"}')
    build = "def build_task(context):\n"
    joined.replace("own/smoothed.py", build, build + "    raise OSError(f\"handed {context.input('answered')}\")\n")
    assert joined.snakemake("results/training/mine/COMPLETE", "--allowed-rules", "train_run").returncode != 0
    assert "OSError: handed results/generations/sft" in (joined.results / "logs/train_run/mine.log").read_text()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda text: text.replace('Literal["smoothed"]', 'Literal["other"]'),
            'method: Literal["smoothed"], found others',
        ),
        (lambda text: text.replace("def build_task", "def build"), "expected build_task(context)"),
        (lambda text: "import nowhere\n" + text, "expected a file that can be imported, found ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_method_is_refused_in_one_line(joined, change, line):
    path = joined.folder / "own" / "smoothed.py"
    path.write_text(change(path.read_text()))
    result = joined.snakemake("--dry-run")
    assert result.returncode != 0
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("error: own/smoothed.py: expected") and line in last


def test_a_plugin_that_is_not_there_and_an_option_of_another_method_are_refused(joined):
    joined.configure({"runs.mine.alpha": 1})
    assert "error: config: runs.mine.alpha: unknown key" in joined.snakemake("--dry-run").stdout
    joined.configure({"plugins": ["own/absent.py"]})
    assert "error: plugins: expected Python files, found none at own/absent.py" in joined.snakemake("--dry-run").stdout
