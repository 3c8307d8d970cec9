"""A chat model as judge, behind any OpenAI-compatible server: bounded in concurrency, tries and money."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Self

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from distill.config.judge import Judging
from distill.errors import JudgeError
from distill.files import digest_value
from distill.judging.prompts import Messages, build_messages, parse_verdict
from distill.judging.protocol import Item, Verdict
from distill.judging.verdict_cache import VerdictCache

REPLY_TOKENS = 4  # "Tie" may take more than one token, and a chatty start must be seen to be rejected
MESSAGE_OVERHEAD = 16  # more tokens than any chat format adds around a message
LONGEST_WAIT_S = 300.0
KEPT = "rerun to continue: finished verdicts are kept"

log = logging.getLogger(__name__)


@dataclass
class _Bill:
    """What one verdict has used so far."""

    attempts: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0

    def add(self, usage: CompletionUsage | None) -> None:
        if usage is None or self.prompt_tokens is None or self.completion_tokens is None:
            self.prompt_tokens = self.completion_tokens = None
        else:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens


class OpenAIJudge:
    """Asks a chat model at temperature 0 (paper: GPT-4o-mini), with the section's prompt wording.

    Args:
        config: the `judge` section.
        key: the API key; it goes into the request header and nowhere else.
        cache: journal of verdicts and charges.
        backoff_s: seconds before the first repeated request, doubled for each further one, unless the server says how
            long to wait.

    Raises:
        JudgeError: the key is empty or cannot stand in a header.
    """

    def __init__(self, config: Judging, key: str, cache: VerdictCache, backoff_s: float = 1.0):
        self._key = key.strip()
        # An HTTP library would quote such a key in its error.
        if not (self._key and self._key.isascii() and self._key.isprintable()):
            raise JudgeError(
                f"judge.api_key_env: expected an API key in the environment variable {config.api_key_env}, found "
                f"{'characters that no key has' if self._key else 'none'}; set it, or set judge.kind to overlap"
            )
        self.name = config.model
        self.max_concurrency = config.max_concurrency
        self._config = config
        self._cache = cache
        self._backoff_s = backoff_s
        self._reserved_usd = 0.0

    async def __aenter__(self) -> Self:
        self._client = openai.AsyncOpenAI(
            api_key=self._key, base_url=self._config.base_url, timeout=self._config.timeout_s, max_retries=0
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def judge(self, item: Item) -> Verdict:
        """Returns the verdict on one item, from the cache if it was paid before.

        A reply other than A, B or Tie is asked for again `unparsable_retries` times; then the verdict is Tie.

        Raises:
            JudgeError: the key is refused, the spend cap is reached, or the server still fails after all tries.
        """
        messages = build_messages(self._config.wording, item)
        request = {"model": self._config.model, "messages": messages, "temperature": 0, "max_tokens": REPLY_TOKENS}
        digest = digest_value({"server": self._config.base_url, "request": request, "id": item.id, "order": item.order})
        if kept := self._cache.get(digest):
            return kept
        bill = _Bill()
        for _ in range(1 + self._config.unparsable_retries):
            completion = await self._complete(request, bill)
            raw = completion.choices[0].message.content or "" if completion.choices else ""
            choice = parse_verdict(raw)
            if choice:
                break
        verdict = Verdict(
            verdict=choice or "Tie",
            raw=raw,
            model=completion.model,
            system_fingerprint=completion.system_fingerprint,
            attempts=bill.attempts,
            unparsable=choice is None,
            prompt_tokens=bill.prompt_tokens,
            completion_tokens=bill.completion_tokens,
        )
        self._cache.put(digest, verdict)
        return verdict

    async def _complete(self, request: dict, bill: _Bill) -> ChatCompletion:
        """Sends one request until a completion comes back; what it may cost is reserved before and charged after."""
        worst_usd = self._worst_usd(request["messages"])
        tries = 1 + self._config.max_retries
        for attempt in range(tries):
            self._reserve(worst_usd)
            bill.attempts += 1
            usd = worst_usd  # a reply that is lost on the way may have been billed
            wait_s = None
            try:
                completion = await self._client.chat.completions.create(**request)
                if isinstance(completion, ChatCompletion):
                    bill.add(completion.usage)
                    if completion.usage:
                        usd = self._usd(completion.usage.prompt_tokens, completion.usage.completion_tokens)
                    return completion
                failure = "a reply that is no chat completion"
            except openai.APIStatusError as error:
                usd = 0.0
                self._stop_if_final(error)
                failure, wait_s = f"status {error.status_code}", _retry_after(error)
            except (openai.APIError, ValueError) as error:  # ValueError: a body that is no JSON
                failure = type(error).__name__
            finally:
                self._reserved_usd -= worst_usd
                if usd:
                    self._cache.charge(usd)
            if wait_s is None:
                wait_s = min(self._backoff_s * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1)
            if wait_s > LONGEST_WAIT_S:
                raise JudgeError(
                    f"judge.base_url: expected {self._config.base_url} to answer, found {failure} and a wait of "
                    f"{wait_s:.0f} s; come back then and {KEPT}"
                )
            if attempt + 1 < tries:
                log.warning("judge: %s; try %d of %d in %.1f s", failure, attempt + 2, tries, wait_s)
                await asyncio.sleep(wait_s)
        raise JudgeError(
            f"judge.base_url: expected {self._config.base_url} to answer within {tries} tries, found {failure}; "
            f"check the server, then {KEPT}"
        )

    def _usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        prices = self._config.price_per_million_input_tokens, self._config.price_per_million_output_tokens
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / 1e6

    def _worst_usd(self, messages: Messages) -> float:
        """Returns an upper bound of a request's cost: no byte-level vocabulary has more tokens than bytes."""
        size = sum(len(message["content"].encode()) + MESSAGE_OVERHEAD for message in messages)
        return self._usd(size, REPLY_TOKENS)

    def _reserve(self, usd: float) -> None:
        spent, cap = self._cache.spent_usd, self._config.spend_cap_usd
        if spent + self._reserved_usd + usd > cap:
            raise JudgeError(
                f"judge.spend_cap_usd: expected the judge to stay within {cap:g} USD, found {spent:.6f} spent, "
                f"{self._reserved_usd:.6f} reserved and up to {usd:.6f} for the next request; raise the cap or lower "
                f"judge.prompts, then {KEPT}"
            )
        self._reserved_usd += usd

    def _stop_if_final(self, error: openai.APIStatusError) -> None:
        """Raises unless a later try of the same request may succeed; `from None`, since an error may quote the key."""
        config = self._config
        if error.status_code in (401, 403):
            raise JudgeError(
                f"judge.api_key_env: expected {config.base_url} to accept the key in the environment variable "
                f"{config.api_key_env} for {config.model}, found it refused (status {error.status_code}); set a valid "
                f"key, then {KEPT}"
            ) from None
        if error.code == "insufficient_quota":
            raise JudgeError(
                f"judge.api_key_env: expected credit behind the key in {config.api_key_env}, found its quota used up; "
                f"add credit, then {KEPT}"
            ) from None
        if error.status_code not in (408, 409, 429) and error.status_code < 500:
            reason = error.message.replace(self._key, "***")[:300]
            raise JudgeError(
                f"judge.model: expected {config.base_url} to accept a request for {config.model}, found {reason}; "
                "check judge.model and judge.base_url"
            ) from None


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Returns the seconds that the server asks to wait, None if it does not say."""
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
