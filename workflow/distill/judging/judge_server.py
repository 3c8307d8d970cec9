"""What a judge says to its server: questions as requests, and calls that cost nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

from distill.config.judge import Judging
from distill.errors import ServiceError
from distill.files import digest_value
from distill.judging.prompts import build_messages
from distill.judging.protocol import Item
from distill.remote.replies import Answer, classify_error, read_object
from distill.remote.server import Server, most_tokens


class JudgeServer(Server):
    """The configured judge's server; `config` is the `judge` section, else as `Server`."""

    _config: Judging

    def key_of(self, item: Item) -> str:
        """Returns the digest of a question, whatever parameters the model turns out to take."""
        config, messages = self._config, build_messages(self._config.wording, item)
        request = {"model": config.model, "messages": messages, "temperature": 0, "max_tokens": config.reply_tokens}
        return digest_value({"server": config.base_url, "request": request, "id": item.id, "order": item.order})

    def body_of(self, item: Item) -> dict[str, Any]:
        """Returns the request for a verdict, with the parameters that the model is known to take."""
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": build_messages(config.wording, item)}
        body["max_tokens"] = config.reply_tokens
        return self.fit(body if self.temperature is None else body | {"temperature": self.temperature})

    @property
    def temperature(self) -> float | None:
        """What is asked for, 0; None where the model allows no choice."""
        return None if "temperature" in self._left_out else 0

    def tokens_of(self, item: Item) -> tuple[int, int]:
        """Returns bounds of prompt and reply tokens: no byte-level vocabulary has more tokens than bytes."""
        messages = build_messages(self._config.wording, item)
        return most_tokens(messages), self._config.reply_tokens

    async def manage(self, call: Callable[[], Awaitable], look: Callable[[], None]) -> Answer:
        """Makes a call that costs nothing, as often as may help; returns the answer of a success.

        Raises:
            ServiceError: it does not succeed.
        """
        for attempt in range(1 + self._config.max_retries):
            answer = await self._answer(call)
            if isinstance(answer, Answer) and 200 <= answer.status < 300:
                return answer
            if isinstance(answer, Answer):
                reply = classify_error(answer.status, answer.headers, read_object(answer.body) or "no JSON")
            else:
                reply = answer
            if reply.kind == "refused":
                raise ServiceError(
                    f"judge.batch: expected {self._config.base_url} to take batches, found {self.clean(reply.text)}; "
                    "set judge.batch to false"
                )
            await self.pause(reply, attempt, look)
        raise AssertionError("the last pause raises")
