"""Judging: prompts, the overlap judge, and the openai judge against a server that misbehaves."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from distill.config.judge import Judging, resolve_judge
from distill.errors import ConfigError, DataError, ServiceError
from distill.evaluation.win_rate import win_rate
from distill.judging.judge_pairs import judge_pair, make_judge, pick_answers
from distill.judging.openai_judge import OpenAIJudge
from distill.judging.overlap import OverlapJudge
from distill.judging.prompts import build_messages, parse_verdict
from distill.judging.protocol import Item, Verdict
from distill.remote.journal import Journal
from fake_openai import KEY, FakeOpenAI

pytestmark = pytest.mark.usefixtures("no_proxy")

EXAMPLES = [
    {"id": f"p{i}", "instruction": f"Say {i}.", "input": "", "output": [f"number {i}", f"it is {i}"]} for i in range(4)
]
ANSWERS = {
    "bd": {example["id"]: f"number {i} <good>" for i, example in enumerate(EXAMPLES)},
    "kd": {example["id"]: f"thing {i} <bad>" for i, example in enumerate(EXAMPLES)},
}
ITEM = Item("p0", "ab", "Say it.", "A context.", "one", "two", ("one",))


def section(server, **keys):
    return Judging(kind="openai", base_url=server.base_url, **keys)


def run(server, folder, examples=EXAMPLES, key=KEY, progress=lambda: None, **keys):
    """Judges bd against kd with the openai judge, waiting for nothing between tries."""
    judge = OpenAIJudge(section(server, **keys), key, Journal(folder / "verdicts.jsonl", Verdict), backoff_s=0)
    return judge_pair(judge, "bd", "kd", examples, ANSWERS, progress)


# A server that costs nothing needs no first request to show what it charges.
FREE = {"price_per_million_input_tokens": 0, "price_per_million_output_tokens": 0}


def prefers_good(prompt):
    return "A" if prompt.index("<good>") < prompt.index("<bad>") else "B"


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("**Tie**", "Tie"),
        ("[[A]]", "A"),
        ("Answer: B", "B"),
        ("tie", "Tie"),
        ("", None),
        ("Both", None),
        ("A B", None),
        ("Answer A is", None),
        ("C", None),
    ],
)
def test_parse_verdict(reply, choice):
    assert parse_verdict(reply) == choice


@pytest.mark.parametrize("wording", ["own", "paper_figure4"])
def test_prompts_show_everything_but_the_references_and_leave_out_an_empty_context(wording):
    text = json.dumps(
        build_messages(wording, Item("p", "ab", "Say it.", "Some facts.", "first", "second", ("secret",)))
    )
    positions = [text.index(part) for part in ("impartial evaluator", "Say it.", "Some facts.", "first", "second")]
    assert positions == sorted(positions)
    assert "secret" not in text
    bare = json.dumps(build_messages(wording, Item("p", "ab", "Say it.", "", "first", "second", ())))
    assert not re.search(r"<context>|Context:", bare)


@pytest.mark.parametrize(
    ("keys", "environ", "kind"),
    [
        ({}, {}, "overlap"),
        ({}, {"OPENAI_API_KEY": ""}, "overlap"),
        ({}, {"OPENAI_API_KEY": "x"}, "openai"),
        ({"api_key_env": "MY_KEY"}, {"OPENAI_API_KEY": "x"}, "overlap"),
        ({"api_key_env": "MY_KEY"}, {"MY_KEY": "x"}, "openai"),
        ({"kind": "openai"}, {}, "openai"),
        ({"kind": "overlap"}, {"OPENAI_API_KEY": "x"}, "overlap"),
    ],
)
def test_auto_is_openai_where_there_is_a_key(keys, environ, kind):
    assert resolve_judge(Judging(**keys), environ) == Judging(**{**keys, "kind": kind})


@pytest.mark.parametrize(
    "keys",
    [{"pairs": [["bd", "bd"]]}, {"pairs": [["bd", "tie"]]}, {"pairs": [["bd"]]}, {"spend_cap_usd": -1}, {"modle": "x"}],
)
def test_judge_section_rejects_what_cannot_be_judged(keys):
    with pytest.raises(ValidationError):
        Judging(**keys)


def test_make_judge_needs_a_resolved_kind_and_a_key(tmp_path):
    assert isinstance(make_judge(Judging(kind="overlap"), {}, tmp_path), OverlapJudge)
    assert isinstance(make_judge(Judging(kind="openai"), {"OPENAI_API_KEY": KEY}, tmp_path), OpenAIJudge)
    with pytest.raises(ConfigError, match="judge.kind"):
        make_judge(Judging(), {}, tmp_path)
    with pytest.raises(ServiceError, match="environment variable OPENAI_API_KEY, found none"):
        make_judge(Judging(kind="openai"), {}, tmp_path)


@pytest.mark.parametrize(
    ("answer_a", "answer_b", "choice"),
    [("it is 4", "four", "A"), ("four", "number 4", "B"), ("it is 4", "number 4", "Tie"), ("", "", "Tie")],
)
def test_overlap_judge_prefers_the_answer_nearer_to_any_reference(answer_a, answer_b, choice):
    judge, references = OverlapJudge(Judging()), ("number 4", "it is 4")
    items = [
        Item("p", "ab", "Say 4.", "", answer_a, answer_b, references),
        Item("p", "ba", "Say 4.", "", answer_b, answer_a, references),
    ]
    verdict, swapped = judge.judge(items, lambda: None)
    assert verdict.verdict == choice
    assert swapped.verdict == {"A": "B", "B": "A", "Tie": "Tie"}[choice]
    assert (verdict.model, verdict.raw) == ("reference overlap", None)


def test_overlap_judge_goes_by_its_metric_and_refuses_one_that_reads_no_reference(capsys):
    items = [Item("p", order, "首都？", "", "北京。", "不知道", ("北京。",)) for order in ("ab", "ba")]
    with pytest.raises(DataError) as refused:
        OverlapJudge(Judging(dataset="mine")).judge(items, lambda: None)
    assert str(refused.value) == (
        "judge.metric: expected a metric by which a reference of mine scores above 0 against itself, found rouge_l "
        "with 0 for all 1, such as '北京。'; set it to rouge_l_any_script"
    )
    judge = OverlapJudge(Judging(metric="rouge_l_any_script"))
    assert [verdict.verdict for verdict in judge.judge(items, lambda: None)] == ["A", "A"]
    half = [Item("p", "ab", "首都？", "", "北京", "Beijing", ("在北京市中心。", "a b"))]
    OverlapJudge(Judging(dataset="mine")).judge(half, lambda: None)
    assert "judge.metric: rouge_l reads 25% of the letters in the references of mine" in capsys.readouterr().out


def test_overlap_judge_is_consistent_over_a_pair():
    rows = judge_pair(OverlapJudge(Judging()), "bd", "kd", EXAMPLES, ANSWERS)
    rate = win_rate(rows, "bd", "kd")
    assert (rate.win_rate, rate.consistency, rate.n) == (1, 1, 4)


def test_openai_judge_asks_both_orders_and_keeps_what_an_auditor_needs(tmp_path):
    seen = []
    with FakeOpenAI(prefers_good) as server:
        rows = run(server, tmp_path, examples=EXAMPLES[::-1], progress=lambda: seen.append(1))
    assert [(row["id"], row["order"]) for row in rows] == [(f"p{i}", order) for i in range(4) for order in ("ab", "ba")]
    assert rows[1] == {
        "id": "p0",
        "order": "ba",
        "system_a": "kd",
        "system_b": "bd",
        "verdict": "B",
        "winner": "bd",
        "raw": "B",
        "model": "gpt-4o-mini-2024-07-18",
        "system_fingerprint": "fp_fake",
        "temperature": 0,
        "attempts": 1,
        "unparsable": False,
        "refused": None,
        "prompt_tokens": 100,
        "completion_tokens": 1,
    }
    assert {row["winner"] for row in rows} == {"bd"}
    assert len(seen) == len(server.requests) == 8
    assert all(body["temperature"] == 0 and body["max_tokens"] <= 4 for body in server.requests)


def test_responses_are_cleaned_before_they_are_judged(tmp_path):
    answers = {"bd": {"p0": " yes \n\n"}, "kd": {"p0": "no"}}
    with FakeOpenAI("Tie") as server:
        judge = OpenAIJudge(section(server), KEY, Journal(tmp_path / "v.jsonl", Verdict))
        judge_pair(judge, "bd", "kd", EXAMPLES[:1], answers)
    sent = json.dumps(server.requests)
    assert "yes" in sent and " yes \\n" not in sent


@pytest.mark.parametrize("fault", [429, 408, 500, 503, "close", "html", "cut"])
def test_passing_faults_are_retried(tmp_path, fault):
    with FakeOpenAI(prefers_good, faults=[fault, fault]) as server:
        rows = run(server, tmp_path, examples=EXAMPLES[:1], max_concurrency=1)
    assert [row["attempts"] for row in rows] == [3, 1]
    assert {row["winner"] for row in rows} == {"bd"}


@pytest.mark.parametrize("fault", [429, 500, "close", "html"])
def test_lasting_faults_end_in_one_line(tmp_path, fault):
    with FakeOpenAI(faults=[fault] * 99) as server, pytest.raises(ServiceError, match="answer within 3 tries, found"):
        run(server, tmp_path, max_retries=2, max_concurrency=1)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((401, {}, {"message": "no"}), "environment variable OPENAI_API_KEY .*refused"),
        ((403, {}, {"message": "no"}), "environment variable OPENAI_API_KEY .*refused"),
        ((404, {}, {"message": "no model gpt-x"}), "judge.model: .*no model gpt-x"),
        ((429, {}, {"message": "pay", "code": "insufficient_quota"}), "quota used up"),
        ((429, {"Retry-After": "7200"}, {"message": "later"}), "a wait of 7200 s"),
    ],
)
def test_faults_that_no_retry_mends_stop_at_once(tmp_path, fault, message):
    with FakeOpenAI(faults=[fault] * 99) as server, pytest.raises(ServiceError, match=message):
        run(server, tmp_path, max_concurrency=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7),
        ("0", 0),
        ("-3", 0),
        ("date", pytest.approx(250, abs=100)),
        ("soon", pytest.approx(6, abs=2)),  # no such time: the backoff counts, 8 s less its jitter
    ],
)
def test_retry_after_is_honoured(tmp_path, monkeypatch, header, expected):
    if header == "date":  # made here: collecting the tests can be minutes ago
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    waits = []

    async def note(seconds, look):
        waits.append(seconds)

    monkeypatch.setattr("distill.remote.server.sleep", note)
    with FakeOpenAI(faults=[(429, {"Retry-After": header}, {})]) as server:
        judge = OpenAIJudge(
            section(server, max_concurrency=1), KEY, Journal(tmp_path / "v.jsonl", Verdict), backoff_s=8
        )
        judge_pair(judge, "bd", "kd", EXAMPLES[:1], ANSWERS)
    assert waits == [expected]


def test_unparsable_replies_are_asked_again_then_count_as_ties(tmp_path):
    replies = iter(["Hmm", "Well", "A", "x", "y", "z"])
    with FakeOpenAI(lambda prompt: next(replies)) as server:
        rows = run(server, tmp_path, examples=EXAMPLES[:1], max_concurrency=1, unparsable_retries=2)
    found = [(row["verdict"], row["raw"], row["attempts"], row["unparsable"], row["prompt_tokens"]) for row in rows]
    assert found == [("A", "A", 3, False, 300), ("Tie", "z", 3, True, 300)]
    assert win_rate(rows, "bd", "kd").unparsable == 1


@pytest.mark.parametrize("bound", [1, 4])
def test_requests_in_flight_reach_the_bound_and_stay_within(tmp_path, bound):
    with FakeOpenAI(together=bound) as server:
        run(server, tmp_path, max_concurrency=bound, **FREE)
    assert server.most_in_flight == bound
    assert len(server.requests) == 8


def test_spend_cap_stops_before_it_is_passed(tmp_path):
    # 1,000,000 prompt tokens a reply at 1 USD a million; a prompt itself is above 100 bytes, 0.0001 USD.
    keys = {"price_per_million_input_tokens": 1, "price_per_million_output_tokens": 0, "max_concurrency": 1}
    with FakeOpenAI(usage=(1_000_000, 1)) as server:
        with pytest.raises(ServiceError, match=r"judge.spend_cap_usd: expected .* within 3.0001 USD, found 3\.0+ s"):
            run(server, tmp_path, spend_cap_usd=3.0001, **keys)
        assert len(server.requests) == 3
        with pytest.raises(ServiceError, match="spend_cap_usd"):  # earlier tries count
            run(server, tmp_path, spend_cap_usd=3.0001, **keys)
        assert len(server.requests) == 3
        assert len(run(server, tmp_path, spend_cap_usd=9, **keys)) == 8
        assert len(server.requests) == 8


def test_money_that_comes_back_lets_the_rest_go_on(tmp_path):
    # Each prompt bounds its cost at over 0.0005 USD, so few fit under the cap at once; the replies are almost free.
    keys = {"price_per_million_input_tokens": 1, "price_per_million_output_tokens": 0, "spend_cap_usd": 0.0025}
    with FakeOpenAI(usage=(1, 1)) as server:
        assert len(run(server, tmp_path, max_concurrency=8, **keys)) == len(server.requests) == 8
    assert server.most_in_flight <= 4


@pytest.mark.parametrize(
    ("faults", "usage", "charged"),
    [([], (10, 2), True), ([], None, True), (["close"], (10, 2), True), ([500], None, False)],
)
def test_lost_and_uncounted_replies_are_charged_at_their_bound(tmp_path, faults, usage, charged):
    keys = {"price_per_million_input_tokens": 1, "price_per_million_output_tokens": 1, "max_retries": 0}
    with FakeOpenAI(faults=faults, usage=usage) as server:
        judge = OpenAIJudge(section(server, **keys), KEY, cache := Journal(tmp_path / "v.jsonl", Verdict), backoff_s=0)
        if faults:
            with pytest.raises(ServiceError):
                judge.judge([ITEM], lambda: None)
        else:
            assert judge.judge([ITEM], lambda: None)[0].prompt_tokens == (usage and usage[0])
    size = len(json.dumps(server.requests[0]["messages"]))
    if not charged:
        assert cache.spent_usd == 0
    elif usage and not faults:
        assert cache.spent_usd == pytest.approx(12e-6)
    else:
        assert size / 2e6 < cache.spent_usd < size * 2e-6


def test_a_finished_run_is_repeated_without_any_request(tmp_path):
    with FakeOpenAI(prefers_good) as server:
        first = run(server, tmp_path)
        assert run(server, tmp_path) == first
        assert len(server.requests) == 8


def test_a_stopped_run_continues_where_it_was_and_pays_nothing_twice(tmp_path):
    with FakeOpenAI(prefers_good, faults=[None] * 5 + [500] * 3) as server:
        with pytest.raises(ServiceError):
            run(server, tmp_path, max_retries=2, max_concurrency=1)
        assert len(server.requests) == 8
        assert len(run(server, tmp_path)) == 8
        assert len(server.requests) == 11
    with FakeOpenAI(prefers_good) as fresh:
        (tmp_path / "fresh").mkdir()
        assert [row["verdict"] for row in run(fresh, tmp_path / "fresh")] == [
            row["verdict"] for row in run(fresh, tmp_path)
        ]


def test_a_failure_lets_requests_under_way_finish_and_keeps_them(tmp_path):
    with (
        FakeOpenAI(prefers_good, faults=[(404, {}, {"message": "no"})], together=4) as server,
        pytest.raises(ServiceError),
    ):
        run(server, tmp_path, examples=EXAMPLES[:2], max_concurrency=4, **FREE)
    rows = [json.loads(line)["row"] for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert sum("answer" in row for row in rows) == 3


def test_no_item_is_started_after_a_failure(tmp_path):
    with FakeOpenAI(faults=[(404, {}, {"message": "no"})]) as server, pytest.raises(ServiceError):
        run(server, tmp_path, max_concurrency=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("change", [{"wording": "paper_figure4"}, {"model": "another"}])
def test_another_question_is_not_answered_from_the_cache(tmp_path, change):
    with FakeOpenAI(prefers_good) as server:
        run(server, tmp_path)
        run(server, tmp_path, **change)
        assert len(server.requests) == 16


def test_a_torn_last_line_is_judged_anew(tmp_path):
    with FakeOpenAI(prefers_good) as server:
        first = run(server, tmp_path)
        journal = tmp_path / "verdicts.jsonl"
        journal.write_bytes(journal.read_bytes()[:-7])
        assert run(server, tmp_path) == first
        assert len(server.requests) == 9
        assert run(server, tmp_path) == first
        assert len(server.requests) == 9


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b'"verdict":"A"', b'"verdict":"B"').replace(b'"usd":', b'"usd":1'),
        lambda line: line[: len(line) // 2] + b"\n",
        lambda line: bytes(len(line) - 1) + b"\n",
        lambda line: b'{"usd": NaN}\n',
        lambda line: b"[]\n",
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: b'{"row": {"back": "\\ud800"}, "sha256": ""}\n',
        lambda line: b"",
    ],
)
def test_a_damaged_line_is_asked_again_and_no_money_is_forgotten(tmp_path, caplog, damage):
    """The sum spent stands in every row, so that a line lost among others takes none of it along."""
    journal = tmp_path / "verdicts.jsonl"
    with FakeOpenAI("A") as server:
        first = run(server, tmp_path, max_concurrency=1)
        lines = journal.read_bytes().splitlines(keepends=True)
        lines[5] = damage(lines[5])  # what came back of the third request
        journal.write_bytes(b"".join(lines))
        caplog.clear()
        assert run(server, tmp_path, max_concurrency=1) == first
        assert len(server.requests) == 9
        named = [
            record.getMessage() for record in caplog.records if "verdicts.jsonl:6: expected" in record.getMessage()
        ]
        assert bool(named) == bool(lines[5])
        with Journal(journal, Verdict) as cache:
            assert cache.spent_usd >= 9 * (100 * 0.15 + 0.6) / 1e6 - 1e-12
        assert run(server, tmp_path) == first and len(server.requests) == 9


@pytest.mark.parametrize("kept", [None, 0, 1, 9, 15])
def test_lines_that_are_gone_are_named_and_their_money_counts(tmp_path, caplog, kept):
    journal, price = tmp_path / "verdicts.jsonl", (100 * 0.15 + 0.6) / 1e6
    with FakeOpenAI("A") as server:
        first = run(server, tmp_path, max_concurrency=1)
        lines = journal.read_bytes().splitlines(keepends=True)
        assert len(lines) == 16
        journal.write_bytes(b"".join(lines[:kept])) if kept is not None else journal.unlink()
        caplog.clear()
        assert run(server, tmp_path, max_concurrency=1) == first
        named = f"{journal}: expected 16 lines, found {kept or 0}; "
        assert [record.getMessage().startswith(named) for record in caplog.records] == [True]
        billed = len(server.requests)
        assert billed == 16 - (kept or 0) // 2
        with Journal(journal, Verdict) as cache:
            assert billed * price - 1e-12 <= cache.spent_usd < 2 * 8 * price + 1e-3
        caplog.clear()
        assert run(server, tmp_path) == first and len(server.requests) == billed and not caplog.records


@pytest.mark.parametrize("damage", ["", '{"lines": 1}', None])
def test_a_count_of_lines_that_is_damaged_or_gone_costs_nothing(tmp_path, damage):
    with FakeOpenAI("A") as server:
        first, count = run(server, tmp_path), tmp_path / "verdicts.count.json"
        count.write_text(damage) if damage is not None else count.unlink()
        assert run(server, tmp_path) == first and len(server.requests) == 8
        with Journal(tmp_path / "verdicts.jsonl", Verdict) as cache:
            assert cache.spent_usd == pytest.approx(8 * (100 * 0.15 + 0.6) / 1e6)


def test_a_request_under_way_at_a_kill_is_charged_in_full(tmp_path):
    with Journal(tmp_path / "v.jsonl", Verdict) as cache:
        cache.send(0.25)
        cache.put(cache.send(0.5), 0.125)
    with Journal(tmp_path / "v.jsonl", Verdict) as cache:
        assert (cache.spent_usd, cache.in_flight_usd) == (0.375, 0)


@pytest.mark.parametrize(
    ("faults", "key", "fails"),
    [
        ([429, 500, "close"], KEY, False),
        ([], "sk-wrong-9876543210", True),
        ([(404, {}, {"message": f"bad header Bearer {KEY}"})], KEY, True),
        ([], f"{KEY}\n", False),
    ],
)
def test_the_key_is_in_no_file_log_record_or_message(tmp_path, caplog, faults, key, fails):
    caplog.set_level(logging.DEBUG)
    message = ""
    with FakeOpenAI(prefers_good, faults=faults) as server:
        try:
            run(server, tmp_path, key=key, max_concurrency=1)
        except ServiceError as error:
            message = str(error)
            logging.getLogger("test").exception("failed")
    assert bool(message) == fails and "\n" not in message
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert ("Tie" in written or '"A"' in written) != fails
    secret = key.strip()
    assert len(caplog.records) > 3
    assert not any(secret in text for text in (message, written, caplog.text, str([vars(r) for r in caplog.records])))


@pytest.mark.parametrize("key", ["", " \n", "sk-one\nsk-two", "sk-schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_without_quoting_it(tmp_path, key):
    with pytest.raises(ServiceError, match="variable OPENAI_API_KEY, found") as caught:
        OpenAIJudge(Judging(), key, Journal(tmp_path / "v.jsonl", Verdict))
    assert not key.strip() or key not in str(caught.value)


def test_judge_pair_needs_prompts_and_every_answer():
    with pytest.raises(DataError, match="found none; check judge.dataset"):
        judge_pair(OverlapJudge(Judging()), "bd", "kd", [], ANSWERS)
    with pytest.raises(DataError, match="response of kd .*, found 1 missing, such as p2"):
        answers = {**ANSWERS, "kd": {key: text for key, text in ANSWERS["kd"].items() if key != "p2"}}
        judge_pair(OverlapJudge(Judging()), "bd", "kd", EXAMPLES, answers)


def test_pick_answers_takes_the_configured_set_decoding_and_seed():
    rows = [
        {"id": "p", "dataset": dataset, "decoding": decoding, "seed": seed, "response": f"{dataset} {decoding} {seed}"}
        for dataset in ("dolly", "vicuna")
        for decoding in ("greedy", "top_p_1.0")
        for seed in (10, 20)
    ]
    assert pick_answers(rows, Judging(decoding="greedy", seed=20)) == {"p": "dolly greedy 20"}
    with pytest.raises(DataError, match="run.jsonl: expected responses to dolly .*seed 30.* none"):
        pick_answers(rows, Judging(seed=30), "run.jsonl")
