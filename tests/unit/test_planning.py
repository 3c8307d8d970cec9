"""What a study costs before it runs: formulas by hand, what they are asked with, and what Snakemake is asked for."""

import json
import math
import re
from dataclasses import replace

import pytest
import yaml

from distill.__main__ import main
from distill.audit.plan import Measured, RulePlan, compare, plan_study, too_large
from distill.config.base_models import PrunedModel, ScratchModel
from distill.config.given_models import FolderModel, HubModel
from distill.errors import DataError
from distill.planning import calibrate
from distill.planning.formulas import (
    Cost,
    Part,
    Pass,
    activation_bytes,
    engine_memory,
    engine_seconds,
    forward_seconds,
    logits_bytes,
    rollout_seconds,
    training_memory,
    training_seconds,
    weight_state_bytes,
)
from distill.planning.lengths import DOLLY, LogNormal
from distill.planning.rates import Measures, Rates, cpu_rates, read_measures, write_measures
from distill.planning.shapes import KNOWN, Shape, known_shape, read_shape, shape_of
from distill.study.costs import Estimates
from distill.study.load import load_study
from distill.study.stages import STAGES, slice_of
from workplace import ROOT

TINY = Shape(width=8, layers=2, inner=24, heads=2, kv_heads=1, vocabulary=100)
RATES = Rates(fp32=1e6, bf16=1e7, read_bytes=1e6, layer=0.01, token=0.001, start={"light": 1, "train": 2, "vllm": 3})
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


def preset(name, **changes):
    return load_study(yaml.safe_load((ROOT / "presets" / f"{name}.yaml").read_text()) | changes)


def test_weights_of_a_shape_by_hand():
    # Queries and output 2 x 64, keys and values 2 x 8 x 4, three feed-forward matrices of 8 x 24; two blocks.
    assert TINY.blocks == 2 * (128 + 64 + 576)
    assert (TINY.head, TINY.weights) == (800, 1536 + 800)
    assert replace(TINY, tied=False, gated=False).weights == 2 * (128 + 64 + 384) + 1600
    assert TINY.cached_values == 2 * 2 * 4


# From the model cards; positions and biases are no part of a shape.
CARDS = {"qwen2.5-0.5b": 0.494, "qwen2.5-3b": 3.09, "qwen2.5-7b": 7.62, "llama-3.1-8b": 8.03, "llama-3.2-1b": 1.236}
CARDS |= {"gpt2": 0.124, "gpt2-xl": 1.558, "opt-6.7b": 6.66, "smollm2-135m": 0.1345}


@pytest.mark.parametrize("name", CARDS)
def test_known_shapes_have_the_weights_of_their_cards(name):
    assert KNOWN[name].weights == pytest.approx(CARDS[name] * 1e9, rel=0.01)


def test_a_name_finds_its_shape_whatever_the_variant():
    assert known_shape("Qwen/Qwen2.5-Math-1.5B") is KNOWN["qwen2.5-1.5b"]
    assert known_shape("SmolLM2-135M-Instruct.Q4_1.gguf") is KNOWN["smollm2-135m"]
    assert known_shape("DVA13304/Qwen-2.5-3B-Teacher") is KNOWN["qwen2.5-3b"]
    assert known_shape("somebody/else") is None


def test_a_folder_is_asked_first_and_its_name_where_it_is_not_there(tmp_path):
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"num_key_value_heads": 1, "intermediate_size": 24, "vocab_size": 100, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(FolderModel(kind="folder", path=str(tmp_path)), 0) == TINY
    gpt2 = read_shape({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert gpt2 == KNOWN["gpt2"]
    assert shape_of(FolderModel(kind="folder", path="${NOT_SET}/opt-6.7b"), 0) is KNOWN["opt-6.7b"]
    (tmp_path / "config.json").write_text("[]")
    assert shape_of(FolderModel(kind="folder", path=str(tmp_path)), 0) is None


def test_scratch_and_pruned_shapes():
    recipe = {"steps": 1, "batch": 1, "micro_batch": 1, "learning_rate": 1}
    model = ScratchModel(architecture="gpt2", hidden_size=16, layers=3, heads=2, pretraining=recipe)
    assert shape_of(model, 50) == Shape(16, 3, 64, 2, 2, 50, gated=False)
    assert shape_of(PrunedModel(drop_layers=[0]), 0, TINY).layers == 1
    assert shape_of(PrunedModel(drop_layers=[0]), 0, None) is None
    assert shape_of(HubModel(repository="a/gpt2", revision="0" * 40, kind="hub"), 0) is KNOWN["gpt2"]


def test_flops_of_a_pass_by_hand():
    # 3 sequences of 10 tokens, 12 states: 2 N_ne n + 2 L d n^2 + 2 V d rows.
    assert Pass(3, 10, 12).flops(TINY) == 2 * 1536 * 30 + 3 * 2 * 2 * 8 * 100 + 2 * 800 * 12


def test_times_by_hand():
    read = Part(Pass(3, 10, 12), calls=4)
    flops = 92_160 + 9_600 + 19_200
    assert forward_seconds(TINY, read, RATES, "fp32") == pytest.approx(flops / 1.5e6 + 4 * 3 * 0.01)
    assert training_seconds(TINY, read, RATES, "bf16") == pytest.approx(3 * flops / 1e7 + 5 * 4 * 3 * 0.01)
    prompts, answers = 2 * 1536 * 20 + 2 * 2 * 2 * 8 * 100, 2 * 1536 * 20 + 4 * 2 * 2 * 8 * 25 + 2 * 800 * 20
    assert engine_seconds(TINY, 2, 4, 10, 5, RATES, "float32") == pytest.approx((prompts + answers) / 1e6 + 20 * 0.001)
    # Two batches of at most 6 steps, each of which reads all weights, 4 bytes each.
    steps = 2 * 6 * (3 * 0.01 + 2336 * 4 / 1e6)
    read = 4 * (2 * 1536 * 15 + 2 * 2 * 8 * 225) + 2 * 800 * 20
    assert rollout_seconds([TINY], 4, 2, 10, 6, 5, RATES, "fp32") == pytest.approx(steps + read / 1e6)


@pytest.mark.parametrize(
    ("precision", "stage", "processes", "expected"),
    [("fp32", 0, 4, 16), ("bf16", 0, 4, 20), ("bf16", 1, 4, 7), ("bf16", 2, 4, 5.5), ("fp32", 1, 4, 10)],
)
def test_bytes_a_weight(precision, stage, processes, expected):
    assert weight_state_bytes(precision, stage, processes) == expected


def test_memory_by_hand():
    assert activation_bytes(TINY, 10, "bf16", recomputed=False) == 34 * 2 * 10 * 8
    assert activation_bytes(TINY, 10, "bf16", recomputed=True) == 34 * 10 * 8 + 2 * 2 * 10 * 8
    assert logits_bytes(TINY, 10, teachers=1) == 4 * (4 * 10 * 100 + 800)
    assert logits_bytes(TINY, 10**9) == 4 * (2 * 2**26 + 800), "logits are formed chunk by chunk"
    whole = training_memory(TINY, 10, 5, [TINY], precision="bf16", zero_stage=1, processes=4, recomputed=False)
    assert whole == 2336 * (7 + 2) + 34 * 2 * 10 * 8 + 4 * (4 * 5 * 100 + 800)
    assert engine_memory(TINY, "bfloat16", 3, 10) == 2 * (2336 + 3 * 10 * 16)


def test_truncated_lengths():
    assert LogNormal(5, 0).mean_below(10) == LogNormal(5, 0).mean_cut(10) == 5
    assert LogNormal(50, 0.95).mean_below(10**9) == pytest.approx(50 * math.exp(0.95**2 / 2))
    assert LogNormal(50, 0.95).mean_cut(10**9) == pytest.approx(50 * math.exp(0.95**2 / 2))
    assert LogNormal(50, 0.95).share_below(50) == 0.5
    # Dolly within the papers' limits has 70 + 69 tokens by GPT-2's tokenizer.
    assert DOLLY.prompt.mean_below(256) == pytest.approx(70, rel=0.1)
    assert DOLLY.response.mean_below(446) == pytest.approx(69, rel=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_planned_with_the_jobs_that_its_readme_tells(name):
    told = re.search(rf"^\| `{re.escape(name)}` \| (\d+) ", (ROOT / "presets" / "README.md").read_text(), re.MULTILINE)
    one = Estimates(preset(name))
    plans = plan_study(one)
    assert sum(plan.jobs for plan in plans) == int(told[1]) - 1, "Snakemake counts `all` too"
    assert all(0 < plan.cost.seconds < math.inf and plan.cost.host_mb > 0 for plan in plans)
    on_gpu = {plan.rule for plan in plans if plan.gpus and plan.rule != "make_base"}  # which only converts a given one
    assert on_gpu == {plan.rule for plan in plans if plan.cost.device_mb}
    assert bool(on_gpu) == (one.study.deepspeed.device == "cuda")


def test_updates_of_every_kind_of_run():
    one = Estimates(preset("qwen2.5"))
    prompts = one.train_rows
    assert 11_000 < prompts < 14_000
    assert one.updates("bd_sampled") == 3 * (8 * prompts // 64), "every sample is an item"
    assert one.updates("seqkd") == 10 * (prompts // 32), "one sample a prompt"
    assert one.updates("minillm") == 5000
    released = Estimates(preset("released_artifacts"))
    assert released.updates("bd_sampled") == 3 * (8 * released.train_rows // 64), "given samples are of all prompts"
    assert Estimates(preset("smollm2")).updates("sft_continued") == 12, "as many as the run that it names"
    assert Estimates(preset("preferences_llama")).updates("dpo") == 5 * (6750 // 64)


def test_time_follows_length_and_model_size():
    def seconds(**training):
        study = preset("smollm2")
        run = study.runs["bd_sampled"]
        run = run.model_copy(update={"training": run.training.model_copy(update=training)})
        one = Estimates(study.model_copy(update={"runs": study.runs | {"bd_sampled": run}}))
        return STAGES["train_run"].planned(one, system="bd_sampled").seconds

    start = Measures().start_train
    once, twice = seconds(steps=24, evaluate_every=10**6), seconds(steps=48, evaluate_every=10**6)
    more = seconds(steps=72, evaluate_every=10**6)
    assert twice - once == pytest.approx(more - twice)
    assert twice - once > 0.8 * (once - start)
    plans = {plan.rule: plan.cost for plan in plan_study(Estimates(preset("opt")))}
    smaller = {plan.rule: plan.cost for plan in plan_study(Estimates(preset("qwen2.5")))}
    assert plans["train_run"].host_mb > 4 * 6.6e9 * 8 / 2**20, "each process loads the 6.7B model in float32"
    assert plans["train_run"].host_mb > smaller["train_run"].host_mb


def test_stages_ask_for_their_floor_or_their_plan_and_more_at_each_try():
    embedded = Estimates(load_study({}))
    for rule, stage in STAGES.items():
        for job in stage.each(embedded.study):
            assert stage.ask_memory_mb(embedded, 1, **job) == stage.memory_mb, rule
            assert stage.ask_minutes(embedded, 1, **job) == stage.minutes, rule
    large, stage = Estimates(preset("opt")), STAGES["train_run"]
    cost = stage.planned(large, system="teacher")
    assert stage.ask_memory_mb(large, 1, system="teacher") == math.ceil(1.5 * cost.host_mb) > stage.memory_mb
    assert stage.ask_memory_mb(large, 3, system="teacher") == 3 * math.ceil(1.5 * cost.host_mb)
    long, tgpo = Estimates(preset("tgpo_qwen2.5_math")), STAGES["train_run"]
    seconds = tgpo.planned(long, system="tgpo").seconds
    assert tgpo.ask_minutes(long, 2, system="tgpo") == 2 * math.ceil(3 * seconds / 8 / 60), "eight GPUs share it"


def test_the_paid_judge_by_hand():
    judge = {"kind": "openai", "pairs": [["bd_sampled", "phase1"]], "prompts": 50, "reply_tokens": 4, "batch": True}
    one = Estimates(load_study({"judge": judge}))
    # Two orders of 50 prompts; the wording, a prompt of 23 tokens and two answers of 13.4; half the price.
    tokens = 150 + 23 + 2 * 13.4
    expected = 0.5 * 100 * (tokens * 0.15 + 4 * 0.60) / 1e6
    assert STAGES["judge_pair"].planned(one, first="bd_sampled", second="phase1").usd == pytest.approx(expected)
    free = Estimates(load_study({"judge": judge | {"kind": "overlap"}}))
    assert STAGES["judge_pair"].planned(free, first="bd_sampled", second="phase1").usd == 0


def test_a_small_device_is_warned_of_and_a_large_one_is_not():
    plans = plan_study(Estimates(preset("qwen2.5", device_memory_gb=16.0)))
    assert [words for words in too_large(plans, 16.0) if words.startswith("warning: train_run: ")]
    assert too_large(plans, 80.0) == too_large(plans, None) == []


def test_measures_are_kept_and_odd_ones_are_named(tmp_path):
    path = tmp_path / "deep" / "rates.json"
    assert read_measures(path) is None
    measures = Measures(decode_steps=100)
    assert write_measures(measures, path) == path
    assert read_measures(path) == measures
    assert cpu_rates(measures).layer == pytest.approx(1 / 100 / 5)
    for text in ("[]", "{}", '{"gemm": 1}', path.read_text().replace("100", "0"), "{"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"rates\.json"):
            read_measures(path)


def test_a_start_that_fails_is_not_measured():
    assert calibrate.start_seconds("no-such-python", "pass") is None
    assert calibrate.start_seconds("python", "raise SystemExit(1)") is None
    assert 0 < calibrate.start_seconds("python", "pass") < 60


def test_plan_stands_beside_measured_and_small_rules_are_summed():
    plans = [
        RulePlan("train_run", 2, 0, 1, Cost(seconds=60, host_mb=100)),
        RulePlan("split_data", 1, 0, 1, Cost(seconds=3, host_mb=10)),
        RulePlan("make_tables", 1, 0, 1, Cost(seconds=2, host_mb=30)),
        RulePlan("judge_pair", 1, 0, 1, Cost(seconds=2, host_mb=30)),
    ]
    measured = {
        "train_run": Measured(1, 20.0, 200.0),
        "split_data": Measured(1, 6.0, 20.0),
        "make_tables": Measured(1, 4.0, 10.0),
    }
    rows = [line.split() for line in compare(plans, measured)]
    assert rows[1] == ["train_run", "1", "30.0", "20.0", "1.50", "100", "200", "0.50"]
    assert rows[2] == ["2", "below", "10", "s", "2", "5.0", "10.0", "0.50", "30", "20", "1.50"]
    assert rows[3] == ["all", "3", "35.0", "30.0", "1.17", "100", "200", "0.50"]


def test_the_command_line_plans_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = tmp_path / "config.yaml"
    config.write_text(f"title: Mine\nfurther_seeds: [20]\nresults: {tmp_path}/none\n")
    more = tmp_path / "more.json"
    more.write_text('{"deepspeed": {"device": "cuda"}, "device_memory_gb": 0.001}')
    assert main(["plan", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Mine: planned with the default rates")
    assert re.search(r"^train_run +19 ", said, re.MULTILINE), "ten systems, all but the teacher with a second seed"
    assert "with a key in OPENAI_API_KEY it would be" in said
    assert main(["plan", "--config", str(config), str(more)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^train_run +19 +- ", said, re.MULTILINE), "its hours are a GPU's"
    assert "warning: train_run: expected to fit 0.001 GB" in said
    write_measures(Measures())
    assert main(["plan", "--config", str(config)]) == 0
    assert str(tmp_path) in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "expected a config file"), ("- 1\n", "expected keys and values"), ("titel: x\n", "unknown key")],
)
def test_wrong_configs_are_one_line(tmp_path, capsys, text, expected):
    config = tmp_path / "config.yaml"
    if text:
        config.write_text(text)
    assert main(["plan", "--config", str(config)]) == 2
    assert expected in capsys.readouterr().err


def test_measured_needs_records(tmp_path, capsys):
    assert main(["plan", "--config", str(ROOT / "config.yaml"), "--results", str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err


def test_memory_of_a_device_is_in_no_key():
    plain, warned = load_study({}), load_study({"device_memory_gb": 40})
    for rule, stage in STAGES.items():
        for job in stage.each(plain):
            assert slice_of(plain, rule, **job) == slice_of(warned, rule, **job), rule
