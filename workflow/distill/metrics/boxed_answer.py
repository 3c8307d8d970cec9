"""Share of answers whose last `\\boxed{...}` holds a reference's, in percent; an answer that was cut counts as wrong.

What stands up to the last `</think>` is thinking and counts for nothing. Two boxes hold the same if they are equal but
for blanks, signs of layout and a last full stop, or are the same number (`0.5` and `\\frac{1}{2}`). Other equal forms
(`x+1` and `1+x`) are not seen: no algebra is done, so that a reward takes no time that an answer chooses.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from distill.metrics.registry import Metric

_BRACES = re.compile(r"\\boxed\{|\{|\}")
_WORDS = re.compile(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\left|\\right|\\[,;:! ]|\$|\s")
_FRACTION = re.compile(r"(-?)\\[dt]?frac(?:\{(\d{1,30})\}|(\d))(?:\{(\d{1,30})\}|(\d))")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def last_box(text: str) -> str | None:
    """Returns what the last complete `\\boxed{...}` of a text holds, braces within it included; None without one."""
    last, opened = None, list[re.Match]()
    for brace in _BRACES.finditer(text):
        if brace[0] != "}":
            opened.append(brace)
        elif opened and (first := opened.pop())[0] != "{" and (last is None or first.end() > last[0]):
            last = first.end(), brace.start()
    return text[slice(*last)] if last else None


def _value(answer: str) -> Fraction | str:
    """Returns an answer as a number where it is one, else as it is compared."""
    plain = _THOUSANDS.sub("", _LAYOUT.sub("", _WORDS.sub(r"\1", answer)).rstrip("."))
    if parts := _FRACTION.fullmatch(plain):
        plain = f"{parts[1]}{parts[2] or parts[3]}/{parts[4] or parts[5]}"
    try:
        return Fraction(plain) if len(plain) <= 64 and "e" not in plain.lower() else plain
    except (ValueError, ZeroDivisionError):
        return plain


def boxed_answer(prediction: str, references: Sequence[str]) -> float:
    """Returns 100 if the last box behind the thinking holds what a reference does, else 0.

    A reference is a solution with a box of its own, or the bare answer.
    """
    found = last_box(prediction.rpartition("</think>")[2])
    if not found:
        return 0.0
    wanted = (last_box(reference) or reference for reference in references)
    return 100.0 * (_value(found) in map(_value, wanted))


METRIC = Metric(
    title="Right answers",
    score=boxed_answer,
    hub="accuracy",
    needs_end=True,
    as_answer=lambda reference: reference if last_box(reference) else rf"\boxed{{{reference}}}",
)
