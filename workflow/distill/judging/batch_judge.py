"""A chat model as judge through the OpenAI Batch API: half the price, answers within a day."""

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence

from distill.config.judge import Judging
from distill.errors import ServiceError
from distill.judging.judge_server import JudgeServer
from distill.judging.openai_judge import Bill, is_unreadable, verdict_of
from distill.judging.protocol import Item, Verdict
from distill.remote.journal import Batch, Journal
from distill.remote.purse import Purse
from distill.remote.replies import OPTIONAL, Answer, Reply, classify_error, read_object
from distill.remote.server import sleep
from distill.stopping import check

MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000
"""Of one batch; OpenAI's own limits are 50,000 requests and 200 MB."""
_UNDER_WAY = {"validating", "in_progress", "finalizing", "cancelling"}
_ENDED = {"completed", "expired", "cancelled"}
_UNANSWERED = Reply("failed", "a batch without an answer to the question", billed=False)

log = logging.getLogger(__name__)


class BatchJudge:
    """Asks what `OpenAIJudge` asks, in batches, at `judge.batch_price` of the prices.

    A batch is noted in the journal before it is handed in, and carries the note's token. So a kill at any moment leaves
    either a batch that is found again by its token, or none, and no question is paid twice. What a batch leaves
    unanswered, being expired, cancelled or failed in part, is handed in again by its custom id, the question's digest.

    Args:
        config: the `judge` section.
        key: the API key.
        cache: journal of batches, verdicts and charges; opened and closed here.
        backoff_s: as `Server`.

    Raises:
        ServiceError: there is no usable key.
    """

    def __init__(self, config: Judging, key: str, cache: Journal[Verdict], backoff_s: float = 1.0):
        self.name = config.model
        self._config, self._cache = config, cache
        self._server = JudgeServer(config, key, backoff_s)
        self._bills: dict[str, Bill] = defaultdict(Bill)
        self._failures, self._unread = Counter[str](), Counter[str]()
        self._refused: dict[str, Verdict] = {}

    @property
    def spent_usd(self) -> float:
        """What all tries cost together."""
        return self._cache.spent_usd

    def judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        """Returns the verdict on each item, from the journal where it was paid before.

        Raises:
            ServiceError: the key is refused, the spend cap is reached, or a question stays unanswered after all tries.
            Stopped: a signal asked to stop; batches go on at the server, and the next start takes them in.
        """
        with self._cache:
            return asyncio.run(self._judge(items, progress))

    async def _judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        asked = {self._server.key_of(item): item for item in items}
        purse = Purse(self._config, self._cache, self._config.batch_price)
        async with self._server:
            while True:
                for token, batch in self._cache.batches.items():
                    replies = await self._collect(token, batch)
                    if replies is None:
                        self._cache.put(token, 0.0)
                    else:
                        self._take(token, batch, replies, purse)
                missing = [key for key in asked if not self._found(key)]
                if not missing:
                    break
                for part in self._parts({key: asked[key] for key in missing}, purse):
                    await self._hand_in(part, purse)
        for _ in items:
            progress()
        return [verdict for verdict in map(self._found, asked) if verdict]

    def _found(self, key: str) -> Verdict | None:
        return self._cache.get(key) or self._refused.get(key)

    def _parts(self, asked: dict[str, Item], purse: Purse) -> Iterator[dict[str, Item]]:
        """Yields as many of the questions as the cap has room for, in parts that one batch may have."""
        room, part, size = purse.room(), dict[str, Item](), 0
        for key, item in asked.items():
            tokens = self._server.tokens_of(item)
            if (usd := purse.usd(*tokens)) > room:
                if not part and not self._cache.batches:
                    raise purse.refusal(usd)
                break
            longest = 2 * tokens[0]  # bytes as JSON, with what stands around them
            if part and (len(part) == MOST_REQUESTS or size + longest > MOST_BYTES):
                yield part
                part, size = {}, 0
            room, size = room - usd, size + longest
            part[key] = item
        if part:
            yield part

    async def _hand_in(self, part: dict[str, Item], purse: Purse) -> None:
        usual = {"method": "POST", "url": "/v1/chat/completions"}
        lines = ({"custom_id": key, **usual, "body": self._server.body_of(item)} for key, item in part.items())
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        client = self._server.client
        upload = client.files.with_raw_response.create
        file = await self._call(lambda: upload(file=("questions.jsonl", content), purpose="batch"))
        token = self._cache.send(sum(purse.usd(*self._server.tokens_of(item)) for item in part.values()), tuple(part))
        tries = 0

        async def create():
            nonlocal tries
            tries += 1
            # The lost reply to an earlier try may have been that of a batch that now is.
            if tries > 1 and (found := await self._find(token)):
                return found
            return await client.batches.with_raw_response.create(
                input_file_id=str(file.get("id")),
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"request": token},
            )

        made = await self._call(create)
        self._cache.name(token, str(made.get("id")))
        log.info("judge: handed in batch %s", made.get("id"))

    async def _find(self, token: str):
        """Returns the server's answer on the batch of a token, None if it has none."""
        batches, after = self._server.client.batches.with_raw_response, ""
        while True:
            listed = await (batches.list(limit=100, after=after) if after else batches.list(limit=100))
            page = read_object(listed.content) or {}
            rows = page.get("data")
            rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            for row in rows:
                metadata = row.get("metadata")
                if isinstance(metadata, dict) and metadata.get("request") == token:
                    return await batches.retrieve(str(row.get("id")))
            if not (page.get("has_more") and rows):
                return None
            after = str(rows[-1].get("id"))

    async def _collect(self, token: str, batch: Batch) -> dict[str, Reply] | None:
        """Waits for a batch; returns what came back by custom id, None if it was never made."""
        client, name = self._server.client, batch.id
        if name is None:
            found = None

            async def find():
                nonlocal found
                found = await self._find(token)
                return found or await client.batches.with_raw_response.list(limit=1)

            answer = await self._call(find)
            if not found:
                return None
            name = str(answer.get("id"))
            self._cache.name(token, name)
        while True:
            state = await self._call(lambda: client.batches.with_raw_response.retrieve(name))
            if state.get("status") not in _UNDER_WAY:
                break
            await sleep(self._config.batch_poll_s, check)
        if state.get("status") == "failed":
            self._cache.put(token, 0.0)
            errors = state.get("errors")
            listed = errors.get("data") if isinstance(errors, dict) else None
            reply = classify_error(400, {}, listed[0] if isinstance(listed, list) and listed else "no reason")
            raise ServiceError(
                f"judge.batch: expected {self._config.base_url} to take batch {name}, found it failed: "
                f"{self._server.clean(reply.text)}; fix what it names, or set judge.batch to false"
            )
        if state.get("status") not in _ENDED:
            status = self._server.clean(str(state.get("status")))
            raise ServiceError(f"judge.batch: expected the state of batch {name}, found {status}; rerun to go on")
        replies: dict[str, Reply] = {}
        for file in (state.get("output_file_id"), state.get("error_file_id")):
            if isinstance(file, str):
                content = await self._server.manage(lambda: client.files.with_raw_response.content(file), check)  # noqa: B023
                replies |= dict(map(self._read, content.body.splitlines()))
        return replies

    async def _call(self, call: Callable[[], Awaitable]) -> dict:
        answer = await self._server.manage(call, check)
        return read_object(answer.body) or {}

    def _read(self, line: bytes) -> tuple[str, Reply]:
        """Returns the custom id of a line of a batch's answers, and what it is."""
        row = read_object(line) or {}
        key, response = str(row.get("custom_id")), row.get("response")
        if isinstance(response, dict) and type(response.get("status_code")) is int:
            body = json.dumps(response.get("body")).encode()
            return key, self._server.read(Answer(response["status_code"], {}, body))
        return key, classify_error(500, {}, row.get("error") or "no response")

    def _take(self, token: str, batch: Batch, replies: dict[str, Reply], purse: Purse) -> None:
        """Keeps verdicts and charges of a batch, which is settled last: a kill before lets it be taken in again."""
        bound, others, sent = batch.usd / len(batch.keys), 0.0, dict.fromkeys(OPTIONAL)
        given_up: Reply | None = None
        for key in batch.keys:
            if self._cache.get(key):
                continue
            reply = replies.get(key, _UNANSWERED)
            bill, cost = self._bills[key], purse.cost(reply, bound)
            bill.attempts += 1
            self._unread[key] += is_unreadable(reply)
            if reply.kind == "failed":
                others += cost
                self._failures[key] += not self._server.leave_out(reply.unsupported, sent)
                if reply.lasting or self._failures[key] > self._config.max_retries:
                    given_up = reply
                continue
            bill.add(reply.tokens)
            if is_unreadable(reply) and self._unread[key] <= self._config.unparsable_retries:
                others += cost
                continue
            verdict = verdict_of(reply, bill, self._config.model, self._server.temperature)
            if verdict.refused is None:
                self._cache.put(None, cost, key, verdict)
            else:
                others += cost
                self._refused[key] = verdict
        self._cache.put(token, others)
        if given_up:
            self._server.give_up(given_up, 1 + self._config.max_retries)
