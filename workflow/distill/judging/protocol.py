"""What a judge is: it sees one instruction with two answers and names the better one."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from distill.errors import ServiceError

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
        verdict: the better answer, or Tie; None where the server refuses the item, which then counts nowhere.
        raw: the reply as received; None for a judge that does not write, and where there was none.
        model: the model that answered, by its own account, or the judge's name.
        system_fingerprint: the server's backend configuration; None if it tells none.
        temperature: what was asked for; None where the model allows no choice, or the judge has none.
        attempts: requests sent for this verdict, repeated ones included.
        unparsable: no reply could be read, so that the verdict is Tie by rule.
        refused: why the server refuses the item, such as a content filter; None if it does not.
        prompt_tokens: billed prompt tokens of all replies; None if the server does not count them.
        completion_tokens: billed reply tokens, likewise.
    """

    verdict: Choice | None
    raw: str | None
    model: str
    system_fingerprint: str | None = None
    temperature: float | None = None
    attempts: int = 1
    unparsable: bool = False
    refused: str | None = None
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0


class Judge(Protocol):
    """Who decides; `spent_usd` is what this and earlier tries of the same work cost."""

    name: str

    @property
    def spent_usd(self) -> float: ...

    def judge(self, items: Sequence[Item], progress: Callable[[], object]) -> list[Verdict]:
        """Returns the verdict on each item, in order; `progress` is called after each.

        Raises:
            ServiceError: verdicts cannot be had, and asking again now would not help.
        """
        ...


def check_verdicts(verdicts: Collection[Verdict]) -> None:
    """Refuses verdicts that tell nothing of the answers.

    Raises:
        ServiceError: all items were refused, or more than half of the replies cannot be read.
    """
    refusals = [verdict.refused for verdict in verdicts if verdict.refused is not None]
    unread = [verdict.raw for verdict in verdicts if verdict.unparsable]
    answered = len(verdicts) - len(refusals)
    if refusals and not answered:
        raise ServiceError(
            f"judge.model: expected verdicts, found all of {len(refusals)} items refused by the server, the last with "
            f"{refusals[-1]!r}; correct what it names, or choose another judge.model"
        )
    if 2 * len(unread) > answered:
        raise ServiceError(
            f"judge.model: expected replies A, B or Tie, found {len(unread)} of {answered} that are none, the last "
            f"{(unread[-1] or '')[:100]!r}; raise judge.reply_tokens for a model that reasons first, or choose another "
            "judge.model"
        )
