"""Sixty rows in three scripts: scored with the metric for any script, warned of and refused with the default one."""

import csv
import json

import pytest

from workplace import FEW_RUNS, check_out

COLOURS = {
    "zh": ("{}是什么颜色？", {"red": "是红色的。", "blue": "是蓝色的。"}),
    "ru": ("Какого цвета {}?", {"red": "Красного цвета.", "blue": "Синего цвета."}),
    "ar": ("ما لون {}؟", {"red": "لونه أحمر.", "blue": "لونه أزرق."}),
}
THINGS = {
    "zh": "船 车 门 桌子 帽子 椅子 灯 杯子 书 鞋 伞 墙 旗 球 花 屋顶 箱子 风筝 笔 钟",
    "ru": "лодка телега дверь стол шляпа стул лампа чашка книга туфля зонт стена флаг мяч цветок "
    "крыша ящик змей перо часы",
    "ar": "القارب العربة الباب الطاولة القبعة الكرسي المصباح الكوب الكتاب الحذاء المظلة الجدار العلم الكرة الزهرة "
    "السقف الصندوق الطائرة القلم الساعة",
}
RUNS = ("teacher", "phase1", "runs.sft")
ANY = "rouge_l_any_script"


def rows():
    for number in range(20):
        for language, (question, answers) in COLOURS.items():
            answer = answers["red" if number % 2 else "blue"]
            yield {"instruction": question.format(THINGS[language].split()[number]), "output": answer}


@pytest.mark.slow
def test_three_scripts(tmp_path):
    place, data = check_out(tmp_path / "scripts"), [*rows()]
    for name, part in (("train", data[:-12]), ("other", data[-12:])):
        (place.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    texts = [f"{row['instruction']} {row['output']}" for row in data[:-12]]
    (place.folder / "plain.txt").write_text("\n\n".join(texts * 8))
    place.configure(
        FEW_RUNS
        | {
            "data.instructions": {"kind": "file", "path": "train.jsonl"},
            "data.labelled_rows": None,
            "data.dev.rows": 9,
            "data.evaluation": {
                "mine": {"kind": "split", "rows": 9, "metric": ANY},
                "other": {"kind": "file", "path": "other.jsonl"},
            },
            "data.plain_text": {"kind": "file", "path": "plain.txt"},
            **{f"{run}.training.{size}": 15 for run in RUNS for size in ("batch", "micro_batch")},
            "teacher.training.steps": 60,
            "phase1.select": f"dev_{ANY}",
            "runs.sft.select": f"dev_{ANY}",
            "runs.bd_sampled.select": f"dev_{ANY}",
            "sampling": {"engine": "transformers"},
            "teacher_samples.max_new_tokens": 24,
            "generation.max_new_tokens": 24,
            "judge": {"kind": "overlap", "dataset": "mine", "metric": ANY},
        }
    )
    output = place.run()
    warning = (
        "data.evaluation.other.metric: rouge_l reads 0% of the letters in the references of other, such as "
        "'是蓝色的。'; set it to rouge_l_any_script"
    )
    assert output.count(warning) == 1 and "reads 0% of the letters in the references of mine" not in output
    assert warning in (place.results / "logs/score_responses/teacher.log").read_text()
    with open(place.results / "tables/scores.csv", newline="") as file:
        scores = {(row["system"], row["dataset"], row["decoding"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert min(score for (_, dataset, _), score in scores.items() if dataset == "mine") > 0
    assert max(score for (_, dataset, _), score in scores.items() if dataset == "other") == 0
    with open(place.results / "tables/win_rates.csv", newline="") as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {ANY}

    place.configure({"judge.metric": "rouge_l"})
    refused = place.snakemake("results/verdicts/bd_sampled-phase1/COMPLETE")
    assert refused.returncode != 0
    assert "error: judge_pair: judge.metric: expected a metric by which" in refused.stdout.strip().splitlines()[-1]
    place.configure({"phase1.select": "dev_rouge_l"})
    refused = place.snakemake("results/models/phase1/COMPLETE")
    last = refused.stdout.strip().splitlines()[-1]
    assert last.startswith("error: select_checkpoint: select of phase1: expected a metric by which a reference of dev")
    assert "set it to dev_rouge_l_any_script" in last
