"""The HTTP side of a judge: one server, spoken to in the OpenAI protocol, that never sends anything elsewhere."""

import asyncio
import logging
import os
import random
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Self

import openai

from distill.config.judge import Judging
from distill.errors import JudgeError
from distill.files import digest_value
from distill.judging.prompts import build_messages
from distill.judging.protocol import Item
from distill.judging.replies import Answer, Reply, classify, classify_error, one_line, read_object

MESSAGE_OVERHEAD = 16  # more tokens than any chat format adds around a message
LONGEST_WAIT_S = 300.0
KEPT = "rerun to continue: finished verdicts are kept"
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_SETTINGS = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PASSWORD = re.compile(r"//[^/\s@]*@")

log = logging.getLogger(__name__)


class Server:
    """The configured server; open it with `async with`.

    Redirects are not followed: they would carry prompts and headers to another host, whose verdict would be none.

    Args:
        config: the `judge` section.
        key: the API key; it goes into the request header and nowhere else.
        backoff_s: seconds before the first repeated request, doubled for each further one, unless the server says how
            long to wait.

    Raises:
        JudgeError: the key is empty or cannot stand in a header.
    """

    def __init__(self, config: Judging, key: str, backoff_s: float):
        self._key = key.strip()
        # An HTTP library would quote such a key in its error.
        if not (self._key and self._key.isascii() and self._key.isprintable()):
            raise JudgeError(
                f"judge.api_key_env: expected an API key in the environment variable {config.api_key_env}, found "
                f"{'characters that no key has' if self._key else 'none'}; set it, or set judge.kind to overlap"
            )
        self._config, self._backoff_s = config, backoff_s
        self._left_out: set[str] = set()

    async def __aenter__(self) -> Self:
        config = self._config
        try:
            self.client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=config.base_url,
                timeout=config.timeout_s,
                max_retries=0,
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=config.timeout_s),
            )
        except Exception as error:  # each setting that the client refuses has an error of its own
            kind = "_PROXY" if "proxy" in str(error).lower() else ""
            names = [name for name in os.environ if name.upper() in _SETTINGS and kind in name.upper()]
            raise JudgeError(
                "judge.base_url: expected an address, and settings of proxy and certificates, that the client takes, "
                f"found {type(error).__name__}: {self.clean(str(error))}; correct or unset "
                f"{', '.join(sorted(names)) or 'judge.base_url'}"
            ) from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()

    def key_of(self, item: Item) -> str:
        """Returns the digest of a question, whatever parameters the model turns out to take."""
        config, messages = self._config, build_messages(self._config.wording, item)
        request = {"model": config.model, "messages": messages, "temperature": 0, "max_tokens": config.reply_tokens}
        return digest_value({"server": config.base_url, "request": request, "id": item.id, "order": item.order})

    def body_of(self, item: Item) -> dict[str, Any]:
        """Returns the request for a verdict, with the parameters that the model is known to take."""
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": build_messages(config.wording, item)}
        body["max_completion_tokens" if "max_tokens" in self._left_out else "max_tokens"] = config.reply_tokens
        return body if self.temperature is None else body | {"temperature": self.temperature}

    @property
    def temperature(self) -> float | None:
        """What is asked for, 0; None where the model allows no choice."""
        return None if "temperature" in self._left_out else 0

    def tokens_of(self, item: Item) -> tuple[int, int]:
        """Returns bounds of prompt and reply tokens: no byte-level vocabulary has more tokens than bytes."""
        messages = build_messages(self._config.wording, item)
        size = sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in messages)
        return size, self._config.reply_tokens

    def leave_out(self, name: str | None, body: dict) -> bool:
        """Does without a parameter from now on; returns whether the request of `body` may succeed without it."""
        if name is None or name not in body:
            return False
        if name not in self._left_out:
            log.warning("judge: %s takes no %s; asked without it from now on", self._config.model, name)
        self._left_out.add(name)
        return True

    async def complete(self, body: dict) -> Reply:
        """Sends one request for a chat completion; returns what came back, whatever it is."""
        create = self.client.chat.completions.with_raw_response.create
        answer = await self._answer(lambda: create(**body), self._config.timeout_s)
        return self.read(answer) if isinstance(answer, Answer) else answer

    def read(self, answer: Answer) -> Reply:
        """Returns what an answer is, without the key where a server quotes it."""
        reply = classify(answer)
        return Reply(**vars(reply) | {"text": reply.text.replace(self._key, "***")})

    async def manage(self, call: Callable[[], Awaitable], look: Callable[[], None]) -> Answer:
        """Makes a call that costs nothing, as often as may help; returns the answer of a success.

        Raises:
            JudgeError: it does not succeed.
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
                raise JudgeError(
                    f"judge.batch: expected {self._config.base_url} to take batches, found {self.clean(reply.text)}; "
                    "set judge.batch to false"
                )
            await self.pause(reply, attempt, look)
        raise AssertionError("the last pause raises")

    async def pause(self, reply: Reply, attempt: int, look: Callable[[], None]) -> None:
        """Waits before a failed request is sent again; `look` raises where it shall not be.

        Raises:
            JudgeError: no further try is allowed, or none would help.
        """
        config, tries = self._config, 1 + self._config.max_retries
        text = self.clean(reply.text)
        if reply.lasting or attempt + 1 >= tries:
            self.give_up(reply, tries)
        wait_s = reply.wait_s
        if wait_s is None:
            wait_s = min(self._backoff_s * 2 ** min(attempt, 30), LONGEST_WAIT_S) * random.uniform(0.5, 1)
        if wait_s > LONGEST_WAIT_S:
            raise JudgeError(
                f"judge.base_url: expected {config.base_url} to answer, found {text} and a wait of {wait_s:.0f} s; "
                f"come back then and {KEPT}"
            )
        log.warning("judge: %s; try %d of %d in %.1f s", text, attempt + 2, tries, wait_s)
        await sleep(wait_s, look)

    def give_up(self, reply: Reply, tries: int) -> NoReturn:
        """Says what to mend after a failure that so many tries did not."""
        config, text = self._config, self.clean(reply.text)
        if reply.lasting == "key":
            raise JudgeError(
                f"judge.api_key_env: expected {config.base_url} to accept the key in the environment variable "
                f"{config.api_key_env} for {config.model}, found it refused ({text.partition(':')[0]}); set a valid "
                f"key, then {KEPT}"
            )
        if reply.lasting == "quota":
            raise JudgeError(
                f"judge.api_key_env: expected credit behind the key in {config.api_key_env}, found its quota used up; "
                f"add credit, then {KEPT}"
            )
        if reply.lasting == "address":
            raise JudgeError(
                f"judge.base_url: expected {config.base_url} to answer itself, found {text.partition(':')[0]}, a "
                f"redirect, which is not followed with prompts and key; give the final address, then {KEPT}"
            )
        if reply.lasting:
            raise JudgeError(
                f"judge.model: expected {config.base_url} to accept a request for {config.model}, found {text}; check "
                "judge.model and judge.base_url"
            )
        raise JudgeError(
            f"judge.base_url: expected {config.base_url} to answer within {tries} tries, found {text}; check the "
            f"server, then {KEPT}"
        )

    def clean(self, text: str) -> str:
        """Returns a stranger's words as one line without the key or a password."""
        return one_line(_PASSWORD.sub("//***@", text).replace(self._key, "***"))

    async def _answer(self, call: Callable[[], Awaitable], limit_s: float | None = None) -> Answer | Reply:
        try:
            # The client's own limit is one for each piece of a reply.
            response = await asyncio.wait_for(call(), limit_s)
            return Answer(response.status_code, response.headers, response.content)
        except openai.APIStatusError as error:
            return Answer(error.status_code, error.response.headers, error.response.content)
        except TimeoutError:
            return Reply("failed", f"no reply within {self._config.timeout_s:g} s")
        except (openai.OpenAIError, ValueError, OSError) as error:
            cause = error.__cause__ or error
            if isinstance(cause.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(cause):
                return Reply("failed", f"certificate: {self.clean(str(cause))}", billed=False, lasting="model")
            name = type(cause).__name__
            return Reply("failed", f"{name}: {self.clean(str(cause))}", billed=name not in _NOT_SENT)


async def sleep(seconds: float, look: Callable[[], None]) -> None:
    """Sleeps, and looks every second whether to go on."""
    look()
    while seconds > 0:
        await asyncio.sleep(min(seconds, 1.0))
        seconds -= 1.0
        look()
