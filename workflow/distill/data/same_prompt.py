"""What counts as the same prompt, for every check: the split, held-out sets, dev against test, and the audit.

Two examples have the same prompt if `normalise` leaves the same of instruction and input. If only one has an input,
they also have if the other's instruction holds that input, or if instruction and an answer are the same: revisions of
Dolly have a passage in the input, in the instruction or nowhere.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from textwrap import shorten

from distill.records import Example

_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_SIGNS = re.compile(r"\W+")
# Of prose: not print(xs[1]), x[1] or xs[1] = 2, where it is an index.
_CITATION = re.compile(
    r"(\w\([^\s\[]*\[\w+\])|(?<!\b[^\W\d_])\[(?:\d+|[a-z])\](?=[\s\[.,;:)]|$)(?!\s*[=<>+*/%])", re.IGNORECASE
)
# What would be lost with sentence punctuation, or with its form in Unicode: f'(x), 5², 2½, a != b, a := b.
_LOST = re.compile(r"(?<=[\w'’])['’](?=['’]*\()|[⁰¹²³⁴-⁹]+|[¼-¾⅐-⅞]|[!:]=")
_KEPT = {"'": "′", "’": "′", "!=": "≠", ":=": "≔"}
_SENTENCE = frozenset(""".,;:!?"'„‚""")
_MEANT = frozenset("§†‡‰‱′‖·٪")
"""Signs beyond ASCII that Unicode files under other punctuation and that tell prompts apart."""


def _respell(match: re.Match) -> str:
    lost = match[0]
    return _KEPT.get(lost) or (f" {lost}" if "FRACTION" in unicodedata.name(lost[0]) else f"^{lost}")


@lru_cache(maxsize=4096)
def _sign(sign: str) -> str:
    """Returns a sign as it counts: a dash of any length as "-", spaces and sentence punctuation as nothing."""
    kind = unicodedata.category(sign)
    if kind == "Pd" or sign == "−":
        return "-"
    is_quote = kind in ("Pi", "Pf") or "\u3000" <= sign <= "\u303f" and kind in ("Ps", "Pe")
    is_sentence = sign in _SENTENCE or is_quote or (kind == "Po" and not sign.isascii() and sign not in _MEANT)
    # Spaces, joiners, marks of direction, and the variants of an emoji.
    is_unseen = kind[0] == "Z" or kind in ("Cc", "Cf") or "\ufe00" <= sign <= "\ufe0f"
    return "" if is_sentence or is_unseen else sign


def _between(match: re.Match) -> str:
    """Returns what counts of the signs between two words."""
    run, text = match[0], match.string
    after_digit = text[max(match.start() - 1, 0) : match.start()].isdecimal()
    kept = "".join(map(_sign, run))
    if after_digit and not kept and text[match.end() : match.end() + 1].isdecimal():
        return "".join(run.split()) or " "  # 3.5 and 35, 1 2 and 12
    return "!" + kept if after_digit and run[0] == "!" else kept  # 5! and 5


def normalise(text: str) -> str:
    """Returns what counts of a text: letters, digits, combining marks, and signs that bear meaning.

    Case, spaces, quotes and sentence punctuation do not count, unless they stand between two digits (3.5, 1 2). All
    dashes count as one sign. A text of nothing else is returned stripped.
    """
    found = _LOST.sub(_respell, text)
    found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", found).casefold())
    return _SIGNS.sub(_between, _SPACE.sub("", found)) or text.strip()


def normalise_passage(text: str) -> str:
    """Returns what counts of an input or an answer: in these, citation marks such as [12] or [a] do not."""
    return normalise(_CITATION.sub(r"\1", text))


def _keys(example: Example) -> tuple[list[Hashable], list[Hashable]]:
    """Returns the keys that an example is found under, and those under which it finds others."""
    instruction, has_input = normalise(example.instruction), bool(example.input.strip())
    prompt = (instruction, normalise_passage(example.input) if has_input else "")
    bridges = [normalise_passage(f"{example.instruction}\n{example.input}")]
    bridges += [(instruction, normalise_passage(answer)) for answer in example.references]
    own, others = ([prompt, *((side, bridge) for bridge in bridges)] for side in (has_input, not has_input))
    return own, others


def find_alone(examples: Sequence[Example]) -> list[Example]:
    """Returns the examples that share their prompt with no other one."""
    keys = [_keys(example) for example in examples]
    counts = Counter(key for own, _ in keys for key in own)
    # The first key is the prompt, which each row finds in itself.
    shared = [counts[others[0]] > 1 or any(key in counts for key in others[1:]) for _, others in keys]
    return [example for example, is_shared in zip(examples, shared, strict=True) if not is_shared]


def find_shared(examples: Iterable[Example], others: Iterable[Example]) -> list[tuple[Example, Example]]:
    """Returns each example that shares its prompt with another set, and the first such row there."""
    rows: dict[Hashable, Example] = {}
    for other in others:
        for key in _keys(other)[0]:
            rows.setdefault(key, other)
    found = ((example, next((rows[key] for key in _keys(example)[1] if key in rows), None)) for example in examples)
    return [(example, other) for example, other in found if other]


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
