"""The paid judge against servers that answer oddly, die, send elsewhere, or work in batches."""

import json
import os
import signal

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from distill.config.judge import Judging
from distill.errors import DistillError, ServiceError
from distill.judging.batch_judge import BatchJudge
from distill.judging.judge_pairs import judge_pair
from distill.judging.openai_judge import OpenAIJudge, is_unreadable
from distill.judging.protocol import Verdict
from distill.remote.journal import Journal
from distill.remote.replies import Answer, classify
from distill.stopping import Stopped, watched
from fake_openai import KEY, FakeOpenAI

pytestmark = pytest.mark.usefixtures("no_proxy")

EXAMPLES = [{"id": f"p{i}", "instruction": f"Say {i}.", "input": "", "output": f"number {i}"} for i in range(8)]
ANSWERS = {name: {example["id"]: f"{name} {example['id']}" for example in EXAMPLES} for name in ("bd", "kd")}
PRICES = {"price_per_million_input_tokens": 1.0, "price_per_million_output_tokens": 2.0}


class Odd(FakeOpenAI):
    """A server whose answers are changed, each by the next of `changes`, for as long as there are any."""

    def __init__(self, *changes, **options):
        super().__init__(**options)
        self._changes = iter(changes)

    def _completion(self, body):
        change = next(self._changes, None)
        if change is not None and not callable(change):
            return change
        reply = super()._completion(body)
        return change(reply) if change else reply


def message(content, **choice):
    return lambda reply: reply | {"choices": [{"message": content, "finish_reason": "stop"} | choice]}


def run(server, folder, examples=EXAMPLES, judge=OpenAIJudge, **keys):
    keys = PRICES | {"max_retries": 2, "timeout_s": 5, "max_concurrency": 1} | keys
    config = Judging(kind="openai", base_url=server.base_url, batch=judge is BatchJudge, **keys)
    asked = judge(config, KEY, cache := Journal(folder / "verdicts.jsonl", Verdict), backoff_s=0)
    return judge_pair(asked, "bd", "kd", examples, ANSWERS), cache


def counted(server):
    return sum(prompt + 2 * reply for prompt, reply in server.billed) / 1e6


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (message({"content": [{"type": "text", "text": "A"}]}), "verdict"),
        (message({"content": "<think>\nB?\n</think>\n\nA"}), "verdict"),
        (message({"content": "\ud800"}), "unreadable"),
        (message({"content": None}, finish_reason="length"), "unreadable"),
        (message({"content": None, "refusal": "I cannot."}), "refused"),
        (message({"content": "A"}, finish_reason="content_filter"), "refused"),
        (message(None), "failed"),
        (lambda reply: reply | {"choices": []}, "failed"),
        (lambda reply: reply | {"choices": None}, "failed"),
        (lambda reply: reply | {"choices": ["A"]}, "failed"),
        (lambda reply: {"error": {"message": "overloaded", "code": 502}}, "failed"),
        (lambda reply: {"error": "overloaded"}, "failed"),
        (lambda reply: {"error": {"message": "flagged", "code": "content_filter"}}, "refused"),
        (lambda reply: {"error": {"message": "This model's maximum context length is 9", "code": 400}}, "refused"),
    ],
)
def test_what_a_reply_is(change, kind):
    whole = FakeOpenAI()._completion({"model": "m", "messages": []})
    reply = classify(Answer(200, {}, json.dumps(change(whole)).encode()))
    assert kind == (reply.kind if reply.kind != "text" else "unreadable" if is_unreadable(reply) else "verdict")


@pytest.mark.parametrize(
    "usage",
    [{}, None, *({"prompt_tokens": count, "completion_tokens": count} for count in (None, 0)), {"prompt_tokens": -9}],
)
def test_a_count_that_is_none_is_charged_at_the_bound(tmp_path, usage):
    with Odd(*[lambda reply: reply | {"usage": usage}] * 2) as server:
        _, cache = run(server, tmp_path, EXAMPLES[:1])
    assert 2 * 100e-6 < cache.spent_usd < 2 * 2000e-6


def test_every_odd_reply_in_turn_and_a_server_that_dies_and_comes_back(tmp_path):
    """All verdicts are there, no reply that was whole is asked for twice, and the cost is the server's own count."""
    outage = {"error": {"message": "overloaded", "code": 502}}
    odd = [None, outage, message({"content": [{"text": "B"}]}), {"choices": []} | outage, None]
    odd += [message({"content": "<think>so</think>A"}), {"error": "busy"}, lambda reply: reply | {"model": None}]
    with Odd(*odd, faults=[None, 500, None, 429, None, None, 503]) as server:
        port = server._server.server_port
        with pytest.raises(ServiceError, match="within 3 tries"):
            server._faults = iter([None, 500, None, 429, None, None, 503, None, None, None, 500, 500, 500])
            run(server, tmp_path)
        first = counted(server)
        kept = [json.loads(line)["row"] for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert sum(row["usd"] for row in kept if "back" in row) == pytest.approx(first)
    whole = sum("answer" in row for row in kept)
    assert 0 < whole < 16
    with pytest.raises(ServiceError, match="ConnectError"):  # dead; nothing was sent, so nothing is charged
        run(server, tmp_path)
    again = FakeOpenAI("B")
    again.base_url = server.base_url
    again._server.server_close()
    again._server = type(again._server)(("127.0.0.1", port), again._server.RequestHandlerClass)
    with again:
        rows, cache = run(again, tmp_path)
    assert len(rows) == 16 and all(row["verdict"] for row in rows)
    assert len(again.requests) == 16 - whole
    assert cache.spent_usd == pytest.approx(first + counted(again))


def test_the_cap_is_passed_by_no_more_than_was_under_way(tmp_path):
    """And only where the server charges above the reservation."""
    with FakeOpenAI(usage=(20_000, 1)) as server, pytest.raises(ServiceError, match="spend_cap_usd"):
        run(server, tmp_path, spend_cap_usd=0.05, max_concurrency=16)
    assert len(server.requests) == 2 and counted(server) < 0.05


def test_a_refused_prompt_counts_nowhere_and_is_asked_again_on_a_rerun(tmp_path):
    filtered = (400, {}, {"message": "The prompt was filtered.", "code": "content_filter"})
    with FakeOpenAI(faults=[filtered]) as server:
        rows, _ = run(server, tmp_path)
        assert [row["refused"] for row in rows if row["verdict"] is None] == ["The prompt was filtered."]
        assert all(row["verdict"] for row in run(server, tmp_path)[0]) and len(server.requests) == 17


def test_all_refused_or_most_unreadable_is_no_result(tmp_path):
    line = "all of 16 items refused by the server, the last with 'no such wording'"
    refusal = (400, {}, {"message": "no such wording"})
    with FakeOpenAI(faults=[refusal] * 99) as server, pytest.raises(ServiceError, match=line):
        run(server, tmp_path)
    many = [{"id": f"m{i}", "instruction": "Say.", "input": "", "output": "x"} for i in range(100)]
    answers = {name: {example["id"]: "x" for example in many} for name in ("bd", "kd")}
    with FakeOpenAI("Hmm") as server:
        config = Judging(kind="openai", base_url=server.base_url, max_concurrency=1)
        judge = OpenAIJudge(config, KEY, Journal(tmp_path / "many.jsonl", Verdict))
        with pytest.raises(ServiceError, match="40 of 40 that are none, the last 'Hmm'; raise judge.reply_tokens"):
            judge_pair(judge, "bd", "kd", many, answers)
        assert len(server.requests) == 40


@pytest.mark.parametrize("judge", [OpenAIJudge, BatchJudge])
def test_parameters_that_a_model_does_not_take_are_left_out(tmp_path, judge):
    unsupported = [
        (400, {}, {"message": "Use 'max_completion_tokens'.", "code": "unsupported_parameter", "param": "max_tokens"}),
        (400, {}, {"message": "Only the default is supported.", "code": "unsupported_value", "param": "temperature"}),
    ]
    with FakeOpenAI(
        faults=unsupported if judge is OpenAIJudge else unsupported[:1] * 2 + unsupported[1:] * 2
    ) as server:
        rows, _ = run(server, tmp_path, EXAMPLES[:1], judge)
    assert {"max_completion_tokens", "temperature"} & set(server.requests[-1]) == {"max_completion_tokens"}
    assert "max_tokens" not in server.requests[-1] and rows[0]["temperature"] is None


def test_a_redirect_carries_nothing_to_another_host(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    with FakeOpenAI() as other:
        away = (307, {"Location": f"{other.base_url}/chat/completions"}, {})
        with (
            FakeOpenAI(faults=[away] * 9) as server,
            pytest.raises(ServiceError, match="a redirect, which is not follow"),
        ):
            run(server, tmp_path)
    assert not other.requests and len(server.requests) == 1


def test_a_request_to_stop_lets_replies_under_way_come_in(tmp_path):
    def reply(prompt):
        if len(server.requests) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return "A"

    with FakeOpenAI(reply) as server:
        with pytest.raises(Stopped) as stopped, watched():
            run(server, tmp_path)
        assert stopped.value.exit_code == 143 and len(server.requests) == 3
        run(server, tmp_path)
        assert len(server.requests) == 16


def test_a_batch_asks_what_single_requests_ask_at_its_price(tmp_path):
    with FakeOpenAI("A") as server:
        (tmp_path / "single").mkdir()
        single, _ = run(server, tmp_path / "single")
        asked, spent = [*server.requests], counted(server)
        rows, cache = run(server, tmp_path, judge=BatchJudge, batch_price=0.5)
    assert rows == single and server.requests[16:] == asked and len(server.uploads) == 1
    assert cache.spent_usd == pytest.approx(spent / 2)


def test_partial_expired_and_lost_batches_are_handed_in_again_by_custom_id(tmp_path):
    faults = [500, (400, {}, {"message": "flagged", "code": "content_filter"})]
    with FakeOpenAI("A", faults=faults, batches=["expire", "lost"]) as server:
        rows, cache = run(server, tmp_path, judge=BatchJudge)
        # 8 of 16 expired and one failed; the refused one is not asked again. The lost batch is found, not made twice.
        assert [len(lines) for lines in server.uploads] == [16, 9] and len(server._batches) == 2
        assert len(rows) == 16 and sum(row["refused"] is not None for row in rows) == 1
        assert cache.spent_usd == pytest.approx(counted(server) / 2)
        ids = [line["custom_id"] for line in server.uploads[0]]
        assert {line["custom_id"] for line in server.uploads[1]} < set(ids)


@pytest.mark.parametrize("moment", ["send", "name", "put"])
def test_a_batch_outlives_a_kill_and_is_paid_once(tmp_path, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with FakeOpenAI("A") as server:
        monkeypatch.setattr(Journal, moment, die)
        with pytest.raises(Killed):
            run(server, tmp_path, judge=BatchJudge)
        monkeypatch.undo()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        if moment == "put":
            with pytest.raises(ServiceError, match="judge.batch: expected true while a batch is under way"):
                run(server, tmp_path)
        rows, cache = run(server, tmp_path, judge=BatchJudge)
        assert len(rows) == len(server.billed) == 16 and len(server._batches) == 1
        assert cache.spent_usd == pytest.approx(counted(server) / 2) and not cache.in_flight_usd


def test_a_batch_that_is_refused_is_one_line_and_costs_nothing(tmp_path):
    with FakeOpenAI("A", batches=["fail"]) as server:
        with pytest.raises(ServiceError, match="found it failed: no room in the queue"):
            run(server, tmp_path, judge=BatchJudge)
        _, cache = run(server, tmp_path, judge=BatchJudge)
    assert len(server.billed) == 16 and cache.spent_usd == pytest.approx(counted(server) / 2)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
fields = ("choices", "usage", "error", "model", "system_fingerprint", "message", "content", "refusal", "finish_reason")
shaped = st.dictionaries(st.sampled_from(fields), values, max_size=5)
replies = shaped | st.builds(lambda choice, rest: rest | {"choices": [choice]}, shaped, shaped)
replies |= st.builds(lambda own, rest: {"choices": [{"message": own}]} | rest, shaped, shaped)


@seed(15)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(status=st.sampled_from([200, 302, 400, 403, 429, 500]), body=replies | values)
def test_no_reply_is_an_exception(status, body):
    reply = classify(Answer(status, {"retry-after": str(body)[:20]}, json.dumps(body).encode()))
    assert reply.kind in ("text", "refused", "failed") and (reply.kind == "text") == bool(reply.said)
    reply.text.encode()
    assert reply.tokens is None or min(reply.tokens) >= 0


@seed(15)
@settings(max_examples=100, deadline=None, database=None)
@given(status=st.sampled_from([200, 404, 503]), body=st.binary(max_size=40))
def test_no_bytes_are_an_exception(status, body):
    assert classify(Answer(status, {}, body)).kind in ("refused", "failed")


@seed(15)
@settings(max_examples=12, deadline=None, database=None)
@given(body=replies)
def test_a_judged_pair_ends_in_rows_or_one_line(tmp_path_factory, body):
    with Odd(body, body) as server:
        try:
            rows, _ = run(server, tmp_path_factory.mktemp("odd"), EXAMPLES[:1], max_retries=0)
            json.dumps(rows, ensure_ascii=False).encode()
        except DistillError as error:
            assert "\n" not in str(error)
