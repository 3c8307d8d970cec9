"""A teacher behind an OpenAI-compatible server, which answers prompts with texts: kept, bounded in money, and stopped
without loss.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from distill.config.slices.ask_teacher import AskTeacher
from distill.errors import ServiceError
from distill.files import digest_value
from distill.records import Example, TextSample
from distill.remote.asking import LOOK_EVERY, ask_all
from distill.remote.journal import Journal
from distill.remote.purse import Purse
from distill.remote.replies import Reply
from distill.remote.server import Server, most_tokens
from distill.seeds import sequence_seed
from distill.stopping import deferred


@dataclass
class Spoken:
    """Answers to a prompt.

    Attributes:
        said: each text, and whether it ended by itself.
        model, system_fingerprint: who wrote it, by the server's own account.
        refused: why the server answers no more of them, such as a content filter.
    """

    said: list[list[Any]] = field(default_factory=list)
    model: str | None = None
    system_fingerprint: str | None = None
    refused: str | None = None

    @property
    def texts(self) -> list[tuple[int, str, bool]]:
        """Number, text and whether it ended by itself, of the texts that are not empty."""
        return [(number, text, is_whole) for number, (text, is_whole) in enumerate(self.said) if text.strip()]

    def samples(self, example: Example) -> list[TextSample]:
        """Returns the texts that are not empty, numbered as they came."""
        return [TextSample(example.id, text, number, is_whole) for number, text, is_whole in self.texts]


class AskedTeacher:
    """Asks for `per_prompt` answers to each prompt in one request, and again for those that a server leaves out.

    A request to stop, or a failure, lets replies under way come in and keeps them; no further request is sent.

    Args:
        settings: who is asked, and how.
        key: the API key.
        journal: of answers and charges; opened and closed here.
        backoff_s: as `Server`.

    Raises:
        ServiceError: there is no usable key.
    """

    def __init__(self, settings: AskTeacher, key: str, journal: Journal[Spoken], backoff_s: float = 1.0):
        self._settings, self._journal = settings, journal
        self._server = Server(settings.teacher, key, backoff_s)

    @property
    def spent_usd(self) -> float:
        """What all tries cost together, lost replies at their bound."""
        return self._journal.spent_usd

    def ask(self, examples: Sequence[Example], progress: Callable[[], object]) -> list[Spoken]:
        """Returns the answers to each example's prompt, from the journal where they were paid before.

        Raises:
            ServiceError: the key is refused, the spend cap is reached, the server still fails after all tries, or it
                refuses all prompts.
            Stopped: a signal asked to stop.
        """
        with self._journal, deferred():
            return asyncio.run(self._ask_all(examples, progress))

    async def _ask_all(self, examples: Sequence[Example], progress: Callable[[], object]) -> list[Spoken]:
        teacher = self._settings.teacher
        purse = Purse(teacher, self._journal)

        def told(answers: dict[int, Spoken]) -> None:
            progress()
            if len(answers) in (LOOK_EVERY, len(examples)) and not any(own.texts for own in answers.values()):
                refused = next((own.refused for own in reversed(answers.values()) if own.refused is not None), None)
                found, fix = "answered with empty texts", "raise teacher_samples.max_new_tokens for one that reasons"
                if refused is not None:
                    found, fix = f"refused by the server, the last with {refused!r}", "correct what it names"
                raise ServiceError(
                    f"teacher.model: expected answers, found all of {len(answers)} prompts {found}; {fix}, or choose "
                    "another teacher.model"
                )

        return await ask_all(self._server, purse, teacher.max_concurrency, examples, partial(self._ask, purse), told)

    async def _ask(self, purse: Purse, example: Example, look: Callable[[], None]) -> Spoken:
        settings, spoken, failures = self._settings, Spoken(), 0
        while (missing := settings.per_prompt - len(spoken.said)) > 0:
            body = self._body(example, missing, len(spoken.said))
            key = digest_value({"server": settings.teacher.base_url, "request": body, "id": example.id})
            answer = self._journal.get(key)
            if answer is None:
                look()
                body = self._server.fit(body)
                bound = purse.usd(most_tokens(body["messages"]), body.get("n", 1) * settings.max_new_tokens)
                token = await purse.reserve(bound, look)
                reply = await self._server.complete(body)
                if reply.kind == "text":
                    said = [list(one) for one in reply.said[:missing]]
                    answer = Spoken(said, reply.model, reply.system_fingerprint)
                await purse.settle(token, bound, purse.cost(reply, bound), key, answer)
                if reply.kind == "refused":
                    return replace(spoken, refused=reply.text)
                if reply.kind == "failed" and not self._left_out(reply, body):
                    await self._server.pause(reply, failures, look)
                    failures += 1
            if answer:
                spoken = replace(answer, said=spoken.said + answer.said)
        return spoken

    def _left_out(self, reply: Reply, body: dict) -> bool:
        """Returns whether the request may succeed with its bound under another name, for one answer, or without its
        seed; it keeps its temperature.
        """
        if reply.unsupported == "temperature":
            self._server.give_up(replace(reply, lasting="model"), 1)
        return self._server.leave_out(reply.unsupported, body)

    def _body(self, example: Example, n: int, first: int) -> dict[str, Any]:
        settings = self._settings
        content = f"{example.instruction}\n\n{example.input}" if example.input.strip() else example.instruction
        return {
            "model": settings.teacher.model,
            "messages": [{"role": "user", "content": content}],
            "n": n,
            "seed": sequence_seed(settings.seed, example.id, first),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
        }
