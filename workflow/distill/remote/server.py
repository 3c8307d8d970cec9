"""The HTTP side of a model that is asked: one server, in the OpenAI protocol; nothing is ever sent elsewhere."""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Self

import openai

from distill.config.remote import RemoteModel
from distill.errors import ServiceError
from distill.remote.replies import Answer, Reply, classify, one_line, without_password

LONGEST_WAIT_S = 300.0
_MESSAGE_OVERHEAD = 16  # more tokens than any chat format adds around a message
_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
_SETTINGS = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_LEAST_KEY = 8
"""Characters of a key that is a secret: a shorter one is a word for a server that wants any, and may be in any text."""

log = logging.getLogger(__name__)


class Server:
    """The configured server; open it with `async with`.

    Redirects are not followed: they would carry prompts and headers to another host.

    Args:
        config: its section of the config.
        key: the API key; it goes into the request header and nowhere else.
        backoff_s: seconds before the first repeated request, doubled for each further one, unless the server says how
            long to wait.

    Raises:
        ServiceError: the key is empty or cannot stand in a header.
    """

    def __init__(self, config: RemoteModel, key: str, backoff_s: float):
        self._key = key.strip()
        # An HTTP library would quote such a key in its error.
        if not (self._key and self._key.isascii() and self._key.isprintable()):
            raise ServiceError(
                f"{config.section}.api_key_env: expected an API key in the environment variable {config.api_key_env}, "
                f"found {'characters that no key has' if self._key else 'none'}; set it, or {config.without}"
            )
        self._config, self._backoff_s = config, backoff_s
        self._kept = f"rerun to continue: {config.kept}"
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
            raise ServiceError(
                f"{config.section}.base_url: expected an address, and settings of proxy and certificates, that the "
                f"client takes, found {type(error).__name__}: {self.clean(str(error))}; correct or unset "
                f"{', '.join(sorted(names)) or f'{config.section}.base_url'}"
            ) from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()

    def fit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns a request with the parameters that the model is known to take."""
        names = {"max_tokens": "max_completion_tokens"} if "max_tokens" in self._left_out else {}
        gone = self._left_out - {"max_tokens"}
        return {names.get(name, name): value for name, value in body.items() if name not in gone}

    def leave_out(self, name: str | None, body: dict) -> bool:
        """Does without a parameter from now on; returns whether the request of `body` may succeed without it."""
        if name is None or name not in body:
            return False
        if name not in self._left_out:
            log.warning(
                "%s: %s takes no %s; asked without it from now on", self._config.section, self._config.model, name
            )
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
        return replace(
            reply,
            text=self._hide(reply.text),
            said=tuple((self._hide(text), is_whole) for text, is_whole in reply.said),
            model=reply.model and self._hide(reply.model),
            system_fingerprint=reply.system_fingerprint and self._hide(reply.system_fingerprint),
        )

    async def pause(self, reply: Reply, attempt: int, look: Callable[[], None]) -> None:
        """Waits before a failed request is sent again; `look` raises where it shall not be.

        Raises:
            ServiceError: no further try is allowed, or none would help.
        """
        config, tries, own = self._config, 1 + self._config.max_retries, self._config.section
        text = self.clean(reply.text)
        if reply.lasting or attempt + 1 >= tries:
            self.give_up(reply, tries)
        wait_s = reply.wait_s
        if wait_s is None:
            wait_s = min(self._backoff_s * 2 ** min(attempt, 30), LONGEST_WAIT_S) * random.uniform(0.5, 1)
        if wait_s > LONGEST_WAIT_S:
            raise ServiceError(
                f"{own}.base_url: expected {config.base_url} to answer, found {text} and a wait of {wait_s:.0f} s; "
                f"come back then and {self._kept}"
            )
        log.warning("%s: %s; try %d of %d in %.1f s", own, text, attempt + 2, tries, wait_s)
        await sleep(wait_s, look)

    def give_up(self, reply: Reply, tries: int) -> NoReturn:
        """Says what to fix after a failure that so many tries did not."""
        config, text, own = self._config, self.clean(reply.text), self._config.section
        if reply.lasting == "key":
            raise ServiceError(
                f"{own}.api_key_env: expected {config.base_url} to accept the key in the environment variable "
                f"{config.api_key_env} for {config.model}, found it refused ({text.partition(':')[0]}); set a valid "
                f"key, then {self._kept}"
            )
        if reply.lasting == "quota":
            raise ServiceError(
                f"{own}.api_key_env: expected credit behind the key in {config.api_key_env}, found its quota used up; "
                f"add credit, then {self._kept}"
            )
        if reply.lasting == "address":
            raise ServiceError(
                f"{own}.base_url: expected {config.base_url} to answer itself, found {text.partition(':')[0]}, a "
                f"redirect, which is not followed with prompts and key; give the final address, then {self._kept}"
            )
        if reply.lasting:
            raise ServiceError(
                f"{own}.model: expected {config.base_url} to accept a request for {config.model}, found {text}; "
                f"check {own}.model and {own}.base_url"
            )
        raise ServiceError(
            f"{own}.base_url: expected {config.base_url} to answer within {tries} tries, found {text}; check the "
            f"server, then {self._kept}"
        )

    def clean(self, text: str) -> str:
        """Returns a stranger's words as one line without the key or a password."""
        return one_line(self._hide(without_password(text)))

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= _LEAST_KEY else text

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


def most_tokens(messages: Iterable[Mapping[str, str]]) -> int:
    """Returns a bound of a prompt's tokens: no byte-level vocabulary has more tokens than bytes."""
    return sum(len(message["content"].encode()) + _MESSAGE_OVERHEAD for message in messages)


async def sleep(seconds: float, look: Callable[[], None]) -> None:
    """Sleeps, and looks every second whether to go on."""
    look()
    while seconds > 0:
        await asyncio.sleep(min(seconds, 1.0))
        seconds -= 1.0
        look()
