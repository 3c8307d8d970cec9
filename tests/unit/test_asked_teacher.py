"""A teacher behind a server: every answer is paid once, and what a server does wrong loses none."""

import json

import pytest

from distill.config.remote import key_of
from distill.config.slices.ask_teacher import AskTeacher
from distill.config.teacher import ApiTeacher
from distill.errors import ServiceError
from distill.records import Example
from distill.remote.journal import Journal
from distill.sampling.asked_teacher import AskedTeacher, Spoken
from fake_openai import KEY, FakeOpenAI

pytestmark = pytest.mark.usefixtures("no_proxy")

EXAMPLES = [Example.of(f"Say {number}.", "twice" if number else "", "so", "qa") for number in range(6)]
PROMPTS = ["Say 0.", *(f"Say {number}.\n\ntwice" for number in range(1, 6))]


def said(prompt):
    return [f"{prompt} {index}" for index in range(3)]


def ask(server, folder, key=KEY, **keys):
    """Returns the texts of each example, and the journal."""
    keys = {"max_retries": 1, "max_concurrency": 1} | keys
    teacher = ApiTeacher(kind="api", base_url=server.base_url, model="teacher", **keys)
    asked = {"per_prompt": 3, "prompts": None, "held_out_prompts": 1, "temperature": 0.7, "top_p": 0.9}
    settings = AskTeacher(teacher=teacher, **asked, max_new_tokens=20, seed=10)
    journal = Journal(folder / "answers.jsonl", Spoken)
    found = AskedTeacher(settings, key, journal, backoff_s=0).ask(EXAMPLES, lambda: None)
    rows = [[sample.response for sample in own.samples(one)] for one, own in zip(EXAMPLES, found, strict=True)]
    return rows, journal


def test_all_answers_to_a_prompt_are_asked_for_at_once(tmp_path):
    with FakeOpenAI(said) as server:
        rows, journal = ask(server, tmp_path)
        assert rows == [said(prompt) for prompt in PROMPTS]
        assert ask(server, tmp_path)[0] == rows and len(server.requests) == 6
    first = server.requests[0]
    asked = {"model": "teacher", "n": 3, "temperature": 0.7, "top_p": 0.9, "max_tokens": 20}
    assert {key: first[key] for key in asked} == asked and len({body["seed"] for body in server.requests}) == 6
    assert journal.spent_usd == pytest.approx(6 * (100 * 0.15 + 0.6) / 1e6)


def test_a_server_that_gives_one_answer_at_a_time_is_asked_for_the_rest(tmp_path):
    with FakeOpenAI(lambda prompt: [prompt]) as server:
        rows, _ = ask(server, tmp_path)
    assert rows == [[prompt] * 3 for prompt in PROMPTS]
    assert [body["n"] for body in server.requests[:3]] == [3, 2, 1]
    assert len({body["seed"] for body in server.requests}) == 18


def test_a_server_that_takes_neither_n_nor_seed_is_asked_without(tmp_path):
    extra = {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}
    faults = [(422, {}, extra), (400, {}, {"message": "'n' : number must be at most 1"})]
    with FakeOpenAI(lambda prompt: [prompt], faults=faults) as server:
        assert ask(server, tmp_path)[0] == [[prompt] * 3 for prompt in PROMPTS]
    assert [len({"n", "seed"} & set(body)) for body in server.requests] == [2, 1] + [0] * 18


def test_a_key_that_a_server_quotes_is_not_kept_and_a_word_in_its_place_is_text(tmp_path):
    with FakeOpenAI(lambda prompt: [f"{KEY}, none"] * 3) as server:
        assert ask(server, tmp_path)[0] == [["***, none"] * 3] * 6
    assert KEY not in (tmp_path / "answers.jsonl").read_text()
    with FakeOpenAI("none", key="none") as server:
        assert ask(server, tmp_path / "word", key="none")[0] == [["none"] * 3] * 6


def test_only_a_server_on_this_machine_needs_no_key():
    here, there = (ApiTeacher(kind="api", base_url=f"http://{host}:8/v1", model="m") for host in ("127.0.0.1", "a.org"))
    assert [key_of(here, {}), key_of(there, {}), key_of(here, {"OPENAI_API_KEY": KEY})] == ["none", "", KEY]


def test_what_a_failing_server_answered_is_kept(tmp_path):
    line = "teacher.base_url: expected .* to answer within 2 tries, found status 500.*to continue: answers that came in"
    with FakeOpenAI(said, faults=[None, "cut", None, 500, 500]) as server:
        with pytest.raises(ServiceError, match=line):
            ask(server, tmp_path)
        assert ask(server, tmp_path)[0] == [said(prompt) for prompt in PROMPTS]
    assert len(server.requests) == 5 + 4


def test_refused_prompts_and_empty_answers_are_left_out_and_no_answer_at_all_is_none(tmp_path):
    refusal = (400, {}, {"message": "The prompt was filtered.", "code": "content_filter"})
    with FakeOpenAI(lambda prompt: ["", "so", " "], faults=[refusal]) as server:
        assert ask(server, tmp_path)[0] == [[], *[["so"]] * 5]
    with (
        FakeOpenAI(faults=[refusal] * 9) as server,
        pytest.raises(ServiceError, match="teacher.model: expected answers, found all of 6 prompts refused"),
    ):
        ask(server, tmp_path / "none")
    empty = "found all of 6 prompts answered with empty texts; raise teacher_samples.max_new_tokens"
    with FakeOpenAI("") as server, pytest.raises(ServiceError, match=empty):
        ask(server, tmp_path / "empty")


COLD = {"message": "Unsupported value", "param": "temperature", "code": "unsupported_value"}


@pytest.mark.parametrize(
    ("options", "keys", "line"),
    [
        ({"usage": (10**6, 1)}, {"spend_cap_usd": 0.2}, "teacher.spend_cap_usd: .*lower teacher_samples.prompts"),
        ({"key": "another"}, {}, "teacher.api_key_env: expected http.* to accept the key"),
        ({"faults": [(400, {}, COLD)]}, {}, "teacher.model: expected .* to accept a request"),
        ({}, {"key": ""}, "teacher.api_key_env: expected an API key .* found none; set it, or give its texts as"),
    ],
)
def test_what_money_key_or_model_do_not_allow_ends_with_one_line(tmp_path, options, keys, line):
    with FakeOpenAI(said, **options) as server, pytest.raises(ServiceError, match=line) as caught:
        ask(server, tmp_path, **keys)
    assert KEY not in str(caught.value) + "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))


def test_a_model_that_names_its_bound_otherwise_is_asked_so(tmp_path):
    fault = (400, {}, {"message": "Unsupported parameter: use 'max_completion_tokens'", "param": "max_tokens"})
    with FakeOpenAI(said, faults=[fault]) as server:
        assert ask(server, tmp_path)[0][0] == said("Say 0.")
    assert {"max_tokens", "max_completion_tokens"} & set(server.requests[-1]) == {"max_completion_tokens"}
    assert json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[-1])["row"]["answer"]["model"] == "teacher"
