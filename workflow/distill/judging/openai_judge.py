"""A chat model as judge, behind any OpenAI-compatible server: bounded in concurrency, tries and money."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from distill.config.judge import Judging
from distill.errors import ServiceError
from distill.judging.judge_server import JudgeServer
from distill.judging.prompts import parse_verdict
from distill.judging.protocol import Item, Verdict, check_verdicts
from distill.remote.asking import LOOK_EVERY, ask_all
from distill.remote.journal import Journal
from distill.remote.purse import Purse
from distill.remote.replies import Reply
from distill.stopping import deferred


@dataclass
class Bill:
    """What one verdict has used so far."""

    attempts: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0

    def add(self, tokens: tuple[int, int] | None) -> None:
        """Counts a reply's tokens; one that is not counted leaves the sum unknown."""
        if tokens is None or self.prompt_tokens is None or self.completion_tokens is None:
            self.prompt_tokens = self.completion_tokens = None
        else:
            self.prompt_tokens, self.completion_tokens = (
                self.prompt_tokens + tokens[0],
                self.completion_tokens + tokens[1],
            )


def is_unreadable(reply: Reply) -> bool:
    """Returns whether a reply is a text that is no verdict."""
    return reply.kind == "text" and parse_verdict(reply.text) is None


def verdict_of(reply: Reply, bill: Bill, model: str, temperature: float | None) -> Verdict:
    """Returns the verdict of a reply that is no failure; `model` is the one that was asked for."""
    is_refused = reply.kind == "refused"
    return Verdict(
        verdict=None if is_refused else parse_verdict(reply.text) or "Tie",
        raw=None if is_refused else reply.text,
        model=reply.model or model,
        system_fingerprint=reply.system_fingerprint,
        temperature=temperature,
        unparsable=is_unreadable(reply),
        refused=reply.text if is_refused else None,
        **vars(bill),
    )


class OpenAIJudge:
    """Asks a chat model at temperature 0 (paper: GPT-4o-mini), with the section's prompt wording.

    A request to stop, or a failure, lets replies under way come in and keeps them; no further request is sent.

    Args:
        config: the `judge` section.
        key: the API key.
        cache: journal of verdicts and charges; opened and closed here.
        backoff_s: as `Server`.

    Raises:
        ServiceError: there is no usable key.
    """

    def __init__(self, config: Judging, key: str, cache: Journal[Verdict], backoff_s: float = 1.0):
        self.name = config.model
        self._config, self._cache = config, cache
        self._server = JudgeServer(config, key, backoff_s)

    @property
    def spent_usd(self) -> float:
        """What all tries cost together, lost replies at their bound."""
        return self._cache.spent_usd

    def judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        """Returns the verdict on each item, from the journal where it was paid before.

        A reply other than A, B or Tie is asked for again `unparsable_retries` times; then the verdict is Tie.

        Raises:
            ServiceError: the key is refused, the spend cap is reached, the server still fails after all tries, or the
                replies tell nothing.
            Stopped: a signal asked to stop.
        """
        with self._cache, deferred():
            return asyncio.run(self._judge(items, progress))

    async def _judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        if self._cache.batches:
            raise ServiceError(
                f"judge.batch: expected true while a batch is under way, found false and {len(self._cache.batches)} "
                "handed in; set it to true until their verdicts are in, or they would be paid twice"
            )
        purse = Purse(self._config, self._cache)

        def told(verdicts: dict[int, Verdict]) -> None:
            if len(verdicts) % LOOK_EVERY == 0:
                check_verdicts(verdicts.values())
            progress()

        return await ask_all(self._server, purse, self._config.max_concurrency, items, partial(self._ask, purse), told)

    async def _ask(self, purse: Purse, item: Item, look: Callable[[], None]) -> Verdict:
        key, bound = self._server.key_of(item), purse.usd(*self._server.tokens_of(item))
        if kept := self._cache.get(key):
            return kept
        bill, failures, unread = Bill(), 0, 0
        while True:
            token = await purse.reserve(bound, look)
            body = self._server.body_of(item)
            bill.attempts += 1
            reply = await self._server.complete(body)
            unread += is_unreadable(reply)
            if reply.kind != "failed":
                bill.add(reply.tokens)
            verdict = None
            if reply.kind == "refused" or (
                reply.kind == "text" and (not is_unreadable(reply) or unread > self._config.unparsable_retries)
            ):
                verdict = verdict_of(reply, bill, self.name, body.get("temperature"))
            is_kept = verdict and not verdict.refused
            await purse.settle(token, bound, purse.cost(reply, bound), key, verdict if is_kept else None)
            if verdict:
                return verdict
            if reply.kind == "failed" and not self._server.leave_out(reply.unsupported, body):
                await self._server.pause(reply, failures, look)
                failures += 1
            look()
