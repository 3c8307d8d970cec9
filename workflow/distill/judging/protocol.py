"""What a judge is: it sees one instruction with two answers and names the better one."""

from dataclasses import dataclass
from typing import Literal, Protocol, Self

Choice = Literal["A", "B", "Tie"]


@dataclass(frozen=True)
class Item:
    """One question to a judge; `references` are for judges that compare with valid answers, never for a prompt."""

    id: str
    order: Literal["ab", "ba"]
    instruction: str
    input: str
    answer_a: str
    answer_b: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """A judge's answer with what an auditor needs to check it.

    Attributes:
        verdict: the better answer, or Tie.
        raw: the reply as received; None for a judge that does not write.
        model: the model that answered, by its own account, or the judge's name.
        system_fingerprint: the server's backend configuration; None if it tells none.
        attempts: requests sent for this verdict, repeated ones included.
        unparsable: no reply could be read, so that the verdict is Tie by rule.
        prompt_tokens: billed prompt tokens of all replies; None if the server does not count them.
        completion_tokens: billed reply tokens, likewise.
    """

    verdict: Choice
    raw: str | None
    model: str
    system_fingerprint: str | None = None
    attempts: int = 1
    unparsable: bool = False
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class Judge(Protocol):
    """A judge is opened with `async with`, then asked, at most `max_concurrency` items at once."""

    name: str
    max_concurrency: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *error: object) -> None: ...

    async def judge(self, item: Item) -> Verdict:
        """Returns the verdict on one item.

        Raises:
            JudgeError: no verdict can be had, and asking again now would not help.
        """
        ...
