"""A published model answers plain messages as the study's engine does, in transformers' pipeline and at a terminal."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from openai import BadRequestError, OpenAI
from transformers import pipeline

from distill.__main__ import main
from distill.data.chat_template import conversation, make_usable
from distill.data.tokens import encode_prompt, load_tokenizer, response_text
from distill.data.world import generate_world
from distill.errors import shown
from distill.files import read_json, write_json, write_jsonl
from distill.sampling.engines import open_engine
from distill.sampling.protocol import EngineSettings, Request
from distill.seeds import sequence_seed
from tiny_models import EOS, make_model

NEW_TOKENS, SEED = 12, 10
ROWS = generate_world(3, 50, 8, 4).instructions
PROMPTS = [(f"Explain {EOS} in one word.", ""), *((row["instruction"], row["input"]) for row in ROWS[:49])]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two published models."""
    root, texts = tmp_path_factory.mktemp("models"), [text for pair in PROMPTS for text in pair]
    for seed, name in enumerate(("a", "b")):
        make_model(root / name, initializer_range=0.3, seed=seed, texts=texts)
        make_usable(root / name, "alpaca", NEW_TOKENS)
    return root


def engine_answers(model, prompts, engine="transformers", temperatures=(0.0,)):
    """Returns (prompt ids, answer ids) of a study's engine for each temperature, one request at a time."""
    own, _ = load_tokenizer(model)
    asked = [encode_prompt(own, "alpaca", *prompt) for prompt in prompts]
    requests = [Request(str(i), ids, SEED) for i, ids in enumerate(asked)]
    with open_engine(model, EngineSettings(engine, max_num_seqs=1, kv_cache_gib=0.1)) as opened:
        done = [opened.generate(requests, temperature, 1.0, NEW_TOKENS) for temperature in temperatures]
    return [[(ids, answer.token_ids) for ids, answer in zip(asked, answers, strict=True)] for answers in done]


def texts_of(model, prompts):
    own, _ = load_tokenizer(model)
    (answers,) = engine_answers(model, prompts)
    return [response_text(own, ids) for _, ids in answers]


def test_pipeline_and_engine_give_the_same_greedy_tokens(models):
    ask = pipeline("text-generation", str(models / "a"), dtype="float32", device="cpu")
    (expected,) = engine_answers(models / "a", PROMPTS)
    for prompt, (prompt_ids, answer_ids) in zip(PROMPTS, expected, strict=True):
        (found,) = ask(conversation(*prompt), do_sample=False, return_tensors=True)
        assert found["generated_token_ids"] == prompt_ids + answer_ids
    assert {len(ids) for _, ids in expected} > {NEW_TOKENS}, "no answer ended with EOS"
    assert len({tuple(ids) for _, ids in expected}) > 20
    (found,) = ask(conversation(*PROMPTS[1]), do_sample=False)
    assert found["generated_text"][-1]["content"].strip() == texts_of(models / "a", PROMPTS[1:2])[0]


@contextmanager
def served(model):
    """Yields a client of vLLM's server on this machine alone; the server ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--dtype", "float32"]
    command += ["--served-model-name", "student", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "512", "--max-num-seqs", "1", "--kv-cache-memory-bytes", str(2**27)]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_HOST_IP": "127.0.0.1"}
    environment |= {"VLLM_LOGGING_LEVEL": "INFO"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        try:
            log = []
            for line in server.stdout:
                log.append(line)
                if "Application startup complete" in line:
                    break
            else:
                pytest.fail("".join(log)[-4000:])
            yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        finally:
            server.terminate()
            server.communicate()


@pytest.mark.slow
def test_server_and_engine_of_vllm_give_the_same_tokens_greedily_and_drawn_with_the_recorded_seed(models):
    expected = engine_answers(models / "a", PROMPTS, "vllm", temperatures := (0.0, 1.0))
    with served(models / "a") as client:
        for temperature, answers in zip(temperatures, expected, strict=True):
            for i, (prompt, (prompt_ids, answer_ids)) in enumerate(zip(PROMPTS, answers, strict=True)):
                asked = {"temperature": temperature, "top_p": 1.0, "seed": sequence_seed(SEED, str(i), 0)}
                found = client.chat.completions.create(
                    model="student", messages=conversation(*prompt), **asked, extra_body={"return_token_ids": True}
                )
                assert (found.prompt_token_ids, found.choices[0].token_ids) == (prompt_ids, answer_ids)
        with pytest.raises(BadRequestError, match="expected one user message"):
            client.chat.completions.create(model="student", messages=conversation("Hi", "") * 2)


def printed(text):
    return "".join(shown(line) + "\n" for line in text.splitlines())


def test_chat_answers_each_line_alone(models, monkeypatch, capsys):
    instructions = [instruction for instruction, _ in PROMPTS[:3]]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n".join(instructions)))
    assert main(["chat", str(models / "a")]) == 0
    assert capsys.readouterr().out == "".join(
        map(printed, texts_of(models / "a", [(text, "") for text in instructions]))
    )


def test_ask_gives_the_same_prompts_to_both(models, tmp_path, capsys):
    given = next(prompt for prompt in PROMPTS if prompt[1])
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": PROMPTS[0][0]}, {"instruction": given[0], "input": given[1]}])
    both = [str(models / name) for name in ("a", "b")]
    assert main(["ask", *both, "--file", str(tmp_path / "rows.jsonl")]) == 0
    answers = {model: texts_of(model, [PROMPTS[0], given]) for model in both}
    assert answers[both[0]] != answers[both[1]]
    parts = [
        [printed(f"> {instruction}\n{input}"), *(printed(f"{model}: {own[i]}") for model, own in answers.items())]
        for i, (instruction, input) in enumerate((PROMPTS[0], given))
    ]
    assert capsys.readouterr().out == "".join("".join(part) for part in parts)
    assert main(["ask", *both, "--prompt", given[0], "--input", given[1]]) == 0
    assert capsys.readouterr().out == "".join(parts[1])


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("chat_template.jinja", "chat_template.jinja: expected a chat template, found none"),
        ("tokenizer.json", "expected a tokenizer in tokenizer.json, found none"),
        ("model.safetensors", "expected weights in model.safetensors, found none"),
        ("max_new_tokens", "generation_config.json: expected max_new_tokens to be a number, found None"),
        ("row", "rows.jsonl:1: expected texts as instruction and input"),
        ("prompt", "expected a prompt of 1 to 500 tokens"),
        ("hidden_act", "expected a model that transformers can load, found KeyError"),
        ("bytes", "the prompt: expected a text in UTF-8"),
        ("template", "expected a tokenizer with a template, found 'utf-8' codec"),
    ],
)
def test_what_cannot_be_asked_ends_with_one_line(models, tmp_path, capsys, damage, line):
    model, rows = shutil.copytree(models / "a", tmp_path / "model"), tmp_path / "rows.jsonl"
    if damage == "max_new_tokens":
        place = model / "generation_config.json"
        write_json(place, {key: value for key, value in read_json(place).items() if key != damage})
    elif damage == "hidden_act":
        write_json(model / "config.json", read_json(model / "config.json") | {damage: "none"})
    elif damage == "template":
        (model / "chat_template.jinja").write_bytes(b"\xff")
    elif "." in damage:
        (model / damage).unlink()
    instruction = {"row": 3, "prompt": "x" * 2000}.get(damage, "Hi")
    rows.write_text(json.dumps({"instruction": instruction}))
    given = ["--prompt", "\udcff"] if damage == "bytes" else ["--file", str(rows)]
    assert main(["ask", str(model), str(model), *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and line in error
