"""What counts as the same prompt, for every check: the split, held-out sets, dev against test, and the audit.

Two examples have the same prompt if `normalise` leaves the same of instruction and input. If only one has an input,
they also have if the other's instruction is instruction and input, in either order, or if instruction and an answer
longer than a label are the same: revisions of Dolly have a passage in the input, in the instruction or nowhere.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from textwrap import shorten

from distill.records import Example

_SENTENCE = ".,;:!?"
_QUOTES = "\"'"
_CITATION = re.compile(r"\[(?:\d{1,3}|[a-z])\]")
_FACTORIAL = re.compile(r"(?<!\d)\d{1,3}!$")
_LABEL = 20
"""Answers of up to so many characters are taken for labels, which rows with different passages share."""
_MEANT = frozenset("§†‡‰‱′″‴·٪")
"""Signs that Unicode files under punctuation and that tell prompts apart."""


def _character(char: str) -> str:
    """Returns a character in its plain form: of usual width, straight quotes, one dash, nothing for what is unseen.

    Sentence signs that ASCII has not become a full stop, or a space in scripts that set none between words.
    """
    kind, form = unicodedata.category(char), unicodedata.decomposition(char)
    if (kind in ("Cc", "Cf") and not char.isspace()) or "\ufe00" <= char <= "\ufe0f" or char in "¿¡":
        return ""  # joiners, marks of direction, variants of an emoji
    if kind == "Pd" or char == "−":
        return "-"
    if char in "‘’‚‛":
        return "'"
    if kind in ("Pi", "Pf") or char == "„":
        return '"'
    if "\u3000" <= char <= "\u303f" or char in "，！？：；":
        return " "
    if kind == "Po" and not char.isascii() and char not in _MEANT and not form:
        return "."
    # 5² is not 52, nor 2½ 21/2.
    return char if form.startswith(("<super", "<sub", "<fraction")) else unicodedata.normalize("NFKC", char)


class _Characters(dict[int, str]):
    """A table for `str.translate` of characters in their plain form, filled as they come."""

    def __missing__(self, code: int) -> str:
        self[code] = form = _character(chr(code))
        return form


_PLAIN = _Characters()


def _word(word: str, quotes: str) -> str:
    """Returns a word without the sentence signs and quotes around it; signs alone stay."""
    kept = word.lstrip(quotes)
    while kept and (kept[-1] in quotes or kept[-1] in _SENTENCE) and not _FACTORIAL.search(kept):
        kept = kept[:-1]
    return kept or word


def normalise(text: str) -> str:
    """Returns what counts of a text: letters, digits, combining marks, and signs that bear meaning.

    Case and spaces do not count, unless these stand between two digits, nor do quotes around words and sentence signs
    behind them. Signs within a word count (3.5, f'(x), a.b), and so do words of signs alone but the last. A text of
    nothing else is returned stripped.
    """
    plain = unicodedata.normalize("NFC", text.translate(_PLAIN).casefold())
    words = plain.split()
    if len(words) > 1 and not words[-1].strip("?!."):
        del words[-1]  # what is it ?
    # A quote that opens no word is an apostrophe, a prime, feet or inches.
    quotes = "".join(sign for sign in _QUOTES if sign in plain and any(word[0] == sign for word in words))
    ends, found = quotes + _SENTENCE, ""
    for word in words:
        if word[0] in quotes or word[-1] in ends:
            word = _word(word, quotes)
        found += f" {word}" if word[0].isdecimal() and found[-1:].isdecimal() else word
    return found or text.strip()


def _forms(*passages: str) -> tuple[str, str]:
    """Returns what counts of inputs or answers, as they are and without citation marks such as [12] or [a]."""
    text = "\n".join(passages)
    marked, bare = normalise(text), _CITATION.sub("", text)
    return marked, marked if bare == text else normalise(bare) or marked


def _keys(example: Example) -> tuple[list[Hashable], list[Hashable]]:
    """Returns the keys that an example is found under, and those under which it finds others.

    Citation marks do not count where only one of two passages has them.
    """
    own: list[Hashable] = []
    others: list[Hashable] = []

    def file(forms: tuple[str, str], *place: Hashable, opposite: tuple[Hashable, ...] | None = None) -> None:
        (marked, bare), there = forms, place if opposite is None else opposite
        own.extend([(*place, "marked", marked), (*place, "bare", bare)])
        others.extend([(*there, "marked", marked), (*there, "marked", bare), (*there, "bare", marked)])

    instruction, has_input = normalise(example.instruction), bool(example.input.strip())
    file(_forms(example.input) if has_input else ("", ""), "prompt", instruction)
    bridges: list[tuple[tuple[str, str], str]] = [(_forms(example.instruction, example.input), "")]
    if has_input:
        bridges.append((_forms(example.input, example.instruction), ""))
    answers = (_forms(answer) for answer in example.references)
    bridges += [(forms, instruction) for forms in answers if len(forms[1]) > _LABEL]
    for forms, beside in bridges:
        file(forms, has_input, beside, opposite=(not has_input, beside))
    return own, others


def find_alone(examples: Sequence[Example]) -> list[Example]:
    """Returns the examples that share their prompt with no other one."""
    keys = [_keys(example) for example in examples]
    found: dict[Hashable, set[int]] = {}
    for place, (own, _) in enumerate(keys):
        for key in own:
            found.setdefault(key, set()).add(place)
    return [
        example
        for place, (example, (_, others)) in enumerate(zip(examples, keys, strict=True))
        if not any(found.get(key, set()) - {place} for key in others)
    ]


def find_shared(examples: Iterable[Example], others: Iterable[Example]) -> list[tuple[Example, Example]]:
    """Returns each example that shares its prompt with another set, and the first such row there."""
    rows, places = list(others), dict[Hashable, int]()
    for place, row in enumerate(rows):
        for key in _keys(row)[0]:
            places.setdefault(key, place)
    found = ((example, [places[key] for key in _keys(example)[1] if key in places]) for example in examples)
    return [(example, rows[min(hits)]) for example, hits in found if hits]


def drop_shared(
    examples: Sequence[Example], sets: Mapping[str, Sequence[Example]]
) -> tuple[list[Example], dict[str, int]]:
    """Returns the examples that share no prompt with any of some sets, and by set how many went for it."""
    shared = find_shared(examples, [row for rows in sets.values() for row in rows])
    owners = {id(row): name for name, rows in sets.items() for row in rows}
    counts = Counter(owners[id(row)] for _, row in shared)
    gone = {id(example) for example, _ in shared}
    return [example for example in examples if id(example) not in gone], {name: counts[name] for name in sets}


def describe_shared(shared: Sequence[tuple[Example, Example]]) -> str:
    """Returns for an error which two rows are the first that share a prompt."""
    own, other = (f"{row.id} ({shorten(repr(row.instruction), 80)})" for row in shared[0])
    return f"the first with id {own}, as row {other}"
