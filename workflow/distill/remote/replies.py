"""What a server's answer is: texts, a refused item, or a failed request.

The one classifier of replies, for single requests and for the lines of a batch. Servers that speak the OpenAI protocol
differ: errors come in status 200, contents in parts, counts as null. Nothing here raises, whatever the bytes.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

MOST_TOKENS = 10**9
"""No reply has so many; a larger count is none."""
_PASSWORD = re.compile(r"//[^/\s@]*@")
_FILTERED = re.compile(r"content.?(filter|policy|management)|moderat|flagged|safety|responsible.?ai", re.IGNORECASE)
_TOO_LONG = re.compile(r"context.?(length|window)|too.?(long|large|many.tokens)|maximum.?length", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unsupported|not.?support|not.?allowed|deprecated|only the default|use '?max_", re.IGNORECASE
)
OPTIONAL = ("max_tokens", "temperature")
"""Parameters that some models do not take: the first has another name there, the second goes."""
_UNNEEDED = re.compile(r"""^(n|seed)\b|(['"`])(n|seed)\2""")
"""How an error names a parameter that a server does not take and that the answers do not need."""


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What an answer means.

    Attributes:
        kind: only texts are kept.
        text: what the model wrote first; for other kinds the reason, on one line.
        said: each text that it wrote, and whether it ended by itself.
        model, system_fingerprint: by the server's own account, None if it tells none.
        tokens: prompt and reply tokens billed; None if they were not counted.
        billed: whether the server may charge for it without a count.
        lasting: what to fix, where no later try can succeed: the `key`, the `quota`, the `address`, or `model`.
        unsupported: the one of `OPTIONAL`, or of n and seed, that the model does not take.
        wait_s: seconds that the server asks to wait; None if it does not say.
    """

    kind: Literal["text", "refused", "failed"]
    text: str
    said: tuple[tuple[str, bool], ...] = ()
    model: str | None = None
    system_fingerprint: str | None = None
    tokens: tuple[int, int] | None = None
    billed: bool = True
    lasting: Literal["key", "quota", "address", "model"] | None = None
    unsupported: str | None = None
    wait_s: float | None = None


def classify(answer: Answer) -> Reply:
    """Returns what the answer to a request for a chat completion is."""
    content = read_object(answer.body)
    if content is None:
        if 200 <= answer.status < 300:
            return Reply("failed", "a reply that is no chat completion")
        return classify_error(answer.status, answer.headers, answer.body.decode(errors="replace"))
    tokens = _tokens(content.get("usage"))
    error = content.get("error")
    if error or not 200 <= answer.status < 300:
        return classify_error(answer.status, answer.headers, error or content, tokens)
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        return Reply("failed", "a reply without choices", tokens=tokens)
    said, refused = list[tuple[str, bool]](), "content_filter"
    for choice in choices:
        if not isinstance(choice, dict):
            return Reply("failed", "a reply without choices", tokens=tokens)
        if choice.get("error"):
            return classify_error(answer.status, answer.headers, choice["error"], tokens)
        message = choice.get("message")
        if not isinstance(message, dict):
            return Reply("failed", "a choice without a message", tokens=tokens)
        text, refusal = _text(message.get("content")), _text(message.get("refusal"))
        if choice.get("finish_reason") == "content_filter" or (refusal and not text):
            refused = one_line(refusal or text) or refused
        else:
            said.append((text, choice.get("finish_reason") == "stop"))
    if not said:
        return Reply("refused", refused, tokens=tokens)
    return Reply(
        "text",
        said[0][0],
        tuple(said),
        model=_text(content.get("model")) or None,
        system_fingerprint=_text(content.get("system_fingerprint")) or None,
        tokens=tokens,
    )


def classify_error(status: int, headers: Mapping[str, str], error: Any, tokens: tuple[int, int] | None = None) -> Reply:
    """Returns what an error is: a refused item or a failed request; `error` is its object or text."""
    fields = error if isinstance(error, dict) else {"message": error}
    fields = fields | fields["error"] if isinstance(fields.get("error"), dict) else fields
    names = {str(fields.get(name)).lower() for name in ("code", "type")}
    if 200 <= status < 300:  # the error's own code stands for the status
        status = next((int(name) for name in names if re.fullmatch(r"[45]\d\d", name)), 0)
    message = fields.get("message")
    said = one_line(message if isinstance(message, str) else json.dumps(error)) or "no reason"
    where, about = f"status {status}" if status else "an error", f"{' '.join(sorted(names))} {said}"

    def failed(**more: Any) -> Reply:
        return Reply("failed", f"{where}: {said}", tokens=tokens, billed=False, **more)

    refused = Reply("refused", said, tokens=tokens, billed=False)
    is_odd = _FILTERED.search(about) or _TOO_LONG.search(about)
    if names & {"insufficient_quota", "billing_hard_limit_reached"} or status == 402:
        return failed(lasting="quota")
    if status == 401 or status == 403 and not is_odd:
        return failed(lasting="key")
    if 300 <= status < 400:
        return failed(lasting="address")
    if status in (400, 422) and (_UNSUPPORTED.search(about) or "unsupported_value" in names):
        named = f"{fields.get('param')} {said}"
        for name in OPTIONAL:
            if re.search(rf"\b{name}\b", named):
                return failed(unsupported=name)
    if status in (400, 422) and (
        found := _UNNEEDED.search(f"'{fields.get('param')}' {said}") or _UNNEEDED.search(said)
    ):
        return failed(unsupported=found[1] or found[3])
    if status in (400, 403, 413, 422) or status == 0 and is_odd:
        return refused
    if 400 <= status < 500 and status not in (408, 409, 425, 429):
        return failed(lasting="model")
    return failed(wait_s=_retry_after(headers))


def read_object(body: bytes | str) -> dict | None:
    """Returns the JSON object in a body, None where there is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def one_line(text: str, most: int = 300) -> str:
    """Returns a stranger's words as one short line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in _plain(text)).split())[:most]


def without_password(text: str) -> str:
    """Returns a text whose addresses name neither user nor password."""
    return _PASSWORD.sub("//***@", text)


def _plain(text: str) -> str:
    # Half of a surrogate pair is valid JSON, and cannot be written to a file.
    return text.encode(errors="replace").decode()


def _text(content: Any) -> str:
    """Returns a message's text; some servers give it in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return _plain(content) if isinstance(content, str) else ""


def _tokens(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    prompt, reply = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(reply) is not int:
        return None
    # No prompt is without tokens: who says 0 and 0 has not counted.
    return (prompt, reply) if min(prompt, reply) >= 0 and 0 < prompt + reply < MOST_TOKENS else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
