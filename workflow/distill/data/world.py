"""A seeded generator of a small invented world in Dolly's schema: the data of the embedded study.

Folk with two-syllable names have facts (home, food, pet, ...), each a *concept* with three words for the same thing,
and a few seeded rules tie concepts together. Prompts ask for facts (memory), for values in their input (recall), or for
rules put together; answers are drawn from small grammars, so most words of an answer have several near-equal choices
while the concepts behind them depend on the prompt.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations

from distill.concepts import CONCEPTS
from distill.errors import DataError

WORD_WEIGHTS = (5, 3, 2)
FIRST_SYLLABLES = ("Bel", "Cor", "Dan", "Fen", "Gal", "Hol", "Jun", "Kel", "Lor", "Mar", "Nor", "Tam")
LAST_SYLLABLES = ("a", "bin", "dra", "eth", "is", "lo", "mir", "na", "o", "rik", "sa", "wen")
# Few enough that a short pretraining gets past the plateau before facts are learned.
FOLK = 20
REFERENCES = 4

# What a fact is called in a question, and how an answer states it.
FIELDS = {
    "home": "[home|place]",
    "food": "[food|meal]",
    "pet": "[pet|animal]",
    "thing": "[thing|tool]",
    "act": "[fun|play]",
    "trait": "[mood|temper]",
    "time": "[time|hour]",
}
CLAUSES = {
    "home": "[lives|stays] [by|near] the $home",
    "food": "[eats|likes] $food",
    "pet": "[keeps|feeds] a $pet",
    "thing": "[has|holds] a $thing",
    "act": "[will|can] $act",
    "trait": "[is|seems] $trait",
    "time": "[wakes|rises] [at|by] $time",
}
# Pairs of facts, and pairs of concepts, that no train prompt asks for together.
UNSEEN_FACT_PAIRS = (("home", "act"), ("food", "time"), ("pet", "trait"))
SUBJECT = "[$who|Our $who]"
STOP = "[.|!]"


@dataclass(frozen=True)
class World:
    """The rows of every set, without ids, and the plain-text documents; see `generate_world`."""

    instructions: list[dict]
    self_inst: list[dict]
    vicuna: list[dict]
    plain_text: list[str]


@dataclass(frozen=True)
class Lore:
    """The seeded truths of a world: concept numbers of each name's facts, and rules from concept to concept."""

    facts: dict[str, dict[str, int]]
    rules: dict[str, list[int]]


@dataclass(frozen=True)
class Task:
    """One prompt and its answer grammar.

    `slots` maps a slot to the words of a concept or to one fixed word; `topic` stands for the prompt in plain text
    where there is no input.
    """

    instruction: str
    input: str
    answers: list[str]
    slots: Mapping[str, tuple[str, ...]]
    topic: str = ""


# --- grammar -----------------------------------------------------------------------------------------------------


def say(rng: random.Random, template: str, slots: Mapping[str, tuple[str, ...]]) -> str:
    """Draw one text: `[a|b]` is an even choice, `$slot` a word of the slot's concept; the first letter is raised."""
    text = re.sub(r"\[([^\]]*)\]", lambda match: rng.choice(match[1].split("|")), template)
    text = re.sub(r"\$(\w+)", lambda match: word(rng, slots[match[1]]), text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text.replace(" ,", ","))
    return text[0].upper() + text[1:]


def word(rng: random.Random, words: tuple[str, ...]) -> str:
    """Draw a word of a concept, the first one most often."""
    return rng.choices(words, WORD_WEIGHTS[: len(words)])[0]


def concept(rng: random.Random, kind: str) -> tuple[str, ...]:
    """Draw a concept of a kind."""
    return rng.choice(CONCEPTS[kind])


def concept_pair(rng: random.Random, first: str, second: str, unseen: bool) -> tuple[int, int]:
    """Draw the numbers of two concepts whose combination is (or is not) kept out of the train prompts."""
    while True:
        left, right = rng.randrange(len(CONCEPTS[first])), rng.randrange(len(CONCEPTS[second]))
        if ((left + 3 * right) % 4 == 0) == unseen:
            return left, right


def draw_lore(seed: int) -> Lore:
    """Draw the facts and rules of a world."""
    rng = random.Random(f"{seed}/lore")
    names = [first + last for first in FIRST_SYLLABLES for last in LAST_SYLLABLES]
    facts = {
        name: {kind: rng.randrange(len(words)) for kind, words in CONCEPTS.items()} for name in rng.sample(names, FOLK)
    }
    rules = {rule: rng.sample(range(8), 8) for rule in ("trait thing", "act pet", "pet food", "trait act", "pet time")}
    return Lore(facts, rules)


# --- one function a category: (lore, rng, wording: 0 seen, 1 unseen; unseen: unseen combination) -> Task --------------


def open_qa(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """Three facts of one of the folk, from memory, in any order."""
    name = rng.choice(list(lore.facts))
    while True:
        kinds = rng.sample(list(FIELDS), 3)
        if any(set(pair) <= set(kinds) for pair in UNSEEN_FACT_PAIRS) == unseen:
            break
    asking = (
        "[Say|Tell me|Give|I ask] the {}, the {} and the {} of $who.",
        "[Now about|I do not know] $who: [which|what] {}, {}, and what {}?",
    )[wording].format(*(FIELDS[kind] for kind in kinds))
    slots = {"who": (name,)} | {kind: CONCEPTS[kind][lore.facts[name][kind]] for kind in kinds}
    answers = [f"{SUBJECT} {a}, {b} [and|, and] {c}{STOP}" for a, b, c in permutations(CLAUSES[kind] for kind in kinds)]
    return Task(say(rng, asking, slots), "", answers, slots)


def closed_qa(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """What one of the two folk in the input has, and where."""
    listed = [
        {"who": (name,)} | {kind: concept(rng, kind) for kind in ("thing", "pet", "home")}
        for name in rng.sample(list(lore.facts), 2)
    ]
    slots = rng.choice(listed)
    asking = (
        "[What has $who, and where|Which things has $who, and where|Where is $who and with what]?",
        "[Look up $who and all that is told of it|What does the list say of $who]?",
    )[wording]
    answers = [
        f"{SUBJECT} [has|holds] a $thing and a $pet [by|near] the $home{STOP}",
        f"{SUBJECT} [has|holds] a $pet and a $thing [by|near] the $home{STOP}",
        f"[By|Near] the $home $who [has|holds] a $thing and a $pet{STOP}",
    ]
    lines = " ".join(say(rng, "$who: $thing, $pet, $home.", each) for each in listed)
    return Task(say(rng, asking, slots), lines, answers, slots)


def classification(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """The groups of four listed words."""
    groups = {"food": "foods", "pet": "animals", "thing": "tools", "home": "places"}
    kinds = rng.sample(list(groups), 2)
    words = {kind: tuple(word(rng, words) for words in rng.sample(CONCEPTS[kind], 2)) for kind in kinds}
    listed = [entry for pair in words.values() for entry in pair]
    rng.shuffle(listed)
    slots = {kind + side: (words[kind][i],) for kind in kinds for i, side in enumerate("ab")}
    asking = (
        "[Sort|Group|Split] [these|the|all] [words|names] [by kind|by sort|into groups].",
        "[Which of these words|Which names here] are [of one kind|one group]?",
    )[wording]
    part = {
        kind: [f"${kind}{a} and ${kind}{b} [are|must be] {groups[kind]}" for a, b in ("ab", "ba")] for kind in kinds
    }
    answers = [f"{x}[,| and] {y}{STOP}" for one, two in (kinds, kinds[::-1]) for x in part[one] for y in part[two]]
    return Task(say(rng, asking, {}), ", ".join(listed), answers, slots)


def information_extraction(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """Two fields of one of the two sentences of the input."""
    fields = {"thing": "thing", "pet": "animal", "home": "place", "time": "time"}
    kinds = rng.sample(list(fields), 2)
    sources = [
        {kind: concept(rng, kind) for kind in kinds} | {"who": (name,)} for name in rng.sample(list(lore.facts), 2)
    ]
    said = {"thing": " a $thing", "pet": " a $pet", "home": " near the $home", "time": " at $time"}
    lines = [
        say(rng, "$who [took|left]" + "".join(said[kind] for kind in fields if kind in kinds) + ".", slots)
        for slots in sources
    ]
    slots = rng.choice(sources)
    asking = (
        "[List|Give|Name|Pick out] the @ and the @ of $who.",
        "[From the lines I need|Look for] [just|only] the @ and the @ of $who, please.",
    )[wording]
    for kind in kinds:
        asking = asking.replace("@", fields[kind], 1)
    told = [f"the {fields[kind]} [is|was] [a|the] ${kind}" for kind in kinds]
    answers = [f"[Well,|So,] {a} [and|, and] {b}{STOP}" for a, b in (told, told[::-1])]
    return Task(say(rng, asking, slots), " ".join(lines), answers, slots)


def summarization(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """One sentence for a two-sentence story."""
    slots = {kind: concept(rng, kind) for kind in ("home", "time", "trait", "pet", "food")}
    slots["who"] = (rng.choice(list(lore.facts)),)
    source = (
        "[At $time|By $time] $who [went|came|ran] to the $home. There a $trait $pet [took|stole|ate] the $food of $who."
    )
    asking = (
        "[Sum up|Shorten|Cut down] the [story|tale|text] [in one line|a bit|please].",
        "[Tell in brief|Say in one line|In few words] what the [story|tale|text] [says|tells].",
    )[wording]
    answers = [
        "[At|By] $time a $trait $pet [took|had] the $food [of|from] $who" + STOP,
        "a $trait $pet [took|had] the $food [of|from] $who [by|near] the $home" + STOP,
    ]
    return Task(say(rng, asking, slots), say(rng, source, slots), answers, slots)


def brainstorming(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """Gifts for one of the folk and a pastime: three of two facts and two rules, in any order."""
    name, trait, act = rng.choice(list(lore.facts)), *concept_pair(rng, "trait", "act", unseen)
    slots = {"who": (name,), "trait": CONCEPTS["trait"][trait], "act": CONCEPTS["act"][act]}
    slots |= {kind: CONCEPTS[kind][lore.facts[name][kind]] for kind in ("food", "home")}
    slots |= {"thing": CONCEPTS["thing"][lore.rules["trait thing"][trait]]}
    slots |= {"pet": CONCEPTS["pet"][lore.rules["act pet"][act]]}
    asking = (
        "[Give|List|Name|Think of] [some|a few|three] [gifts|ideas] for $who, "
        "[who may|who will|able to] $act and be $trait.",
        "[I need|Find me] [gifts|ideas]: my friend $who will be $trait and [wants to|likes to] $act.",
    )[wording]
    items = ["a [fine|plain] $thing", "[warm|fresh] $food", "a [small|old] $pet", "a [day|walk] [by|near] the $home"]
    answers = [f"[Maybe|Try] {a}, {b} [or|and] {c}{STOP}" for a, b, c in permutations(items, 3)]
    return Task(say(rng, asking, slots), "", answers, slots, "$who will $act and be $trait.")


def creative_writing(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """A line about one of the folk, at home and at play, and a given animal."""
    name, trait, pet = rng.choice(list(lore.facts)), *concept_pair(rng, "trait", "pet", unseen)
    slots = {"who": (name,), "trait": CONCEPTS["trait"][trait], "pet": CONCEPTS["pet"][pet]}
    slots |= {kind: CONCEPTS[kind][lore.facts[name][kind]] for kind in ("home", "act")}
    asking = (
        "[Write|Make up|Tell] a [line|story|tale] [about|of|on] $who and a $trait $pet.",
        "[I want to hear|Can you dream up] a [line|story|tale] with a $trait $pet and $who?",
    )[wording]
    answers = [
        f"[Once|One day] $who [saw|met] a $trait $pet [by|near] the $home{STOP}",
        f"[Once|One day] a $trait $pet [saw|met] $who $act [by|near] the $home{STOP}",
        f"[Once|One day] $who [went|came] to $act with a $trait $pet{STOP}",
    ]
    return Task(say(rng, asking, slots), "", answers, slots, "Here is a $trait $pet and $who.")


def general_qa(lore: Lore, rng: random.Random, wording: int, unseen: bool) -> Task:
    """What to do with an animal in a mood: its food and hour by its kind, a pastime by its mood."""
    trait, pet = concept_pair(rng, "trait", "pet", unseen)
    slots = {"trait": CONCEPTS["trait"][trait], "pet": CONCEPTS["pet"][pet]}
    for rule, number in (("trait act", trait), ("pet food", pet), ("pet time", pet)):
        kind = rule.split()[1]
        slots[kind] = CONCEPTS[kind][lore.rules[rule][number]]
    asking = (
        "[What helps|What to do|How to care] [when|if|each time] [a|my|the|our] $pet [is|feels|gets|seems] $trait?",
        "[My $pet is so $trait|A $pet here feels too $trait]: [how to help|what to do|how can I care]?",
    )[wording]
    answers = [
        "[At|By] $time [give|offer] it $food [and|, then] let it $act" + STOP,
        "[Give|Offer] it $food [at|by] $time [and|, then] let it $act" + STOP,
        "[Let|Help] it $act [at|by] $time [and|, then] [give|offer] it $food" + STOP,
    ]
    return Task(say(rng, asking, slots), "", answers, slots, "The $pet is $trait.")


CATEGORIES: dict[str, Callable[[Lore, random.Random, int, bool], Task]] = {
    function.__name__: function
    for function in (
        open_qa,
        closed_qa,
        classification,
        information_extraction,
        summarization,
        brainstorming,
        creative_writing,
        general_qa,
    )
}
WITHOUT_INPUT = ("open_qa", "brainstorming", "creative_writing", "general_qa")


# --- sets --------------------------------------------------------------------------------------------------------


def normalise_prompt(instruction: str, input: str) -> str:
    """Return a prompt's words alone: lower case, single spaces, no punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", f"{instruction} {input}".lower()))


def draw_rows(
    lore: Lore,
    seed: int,
    name: str,
    count: int,
    taken: set[str],
    *,
    categories: tuple[str, ...] = tuple(CATEGORIES),
    wording: int = 0,
    unseen: bool = False,
) -> list[dict]:
    """Draw `count` rows, the categories in turn, with no prompt of `taken`; adds the new prompts to `taken`."""
    rng = random.Random(f"{seed}/{name}")
    rows: list[dict] = []
    for i in range(count):
        category = categories[i % len(categories)]
        for _ in range(200):
            task = CATEGORIES[category](lore, rng, wording, unseen)
            prompt = normalise_prompt(task.instruction, task.input)
            if prompt not in taken:
                break
        else:
            raise DataError(f"generate_world({name}): expected {count} distinct prompts, found {i}; ask for fewer")
        taken.add(prompt)
        output = [say(rng, rng.choice(task.answers), task.slots) for _ in range(REFERENCES)]
        rows.append({"instruction": task.instruction, "input": task.input, "output": output, "category": category})
    return rows


def draw_document(lore: Lore, rng: random.Random) -> str:
    """Draw a plain-text document: facts of one of the folk, or stories told twice, without questions."""
    if rng.random() < 0.6:
        name = rng.choice(list(lore.facts))
        slots = {"who": (name,)} | {kind: CONCEPTS[kind][number] for kind, number in lore.facts[name].items()}
        kinds = rng.sample(list(CLAUSES), 6)
        return " ".join(
            say(rng, f"{SUBJECT} {CLAUSES[a]}, {CLAUSES[b]} [and|, and] {CLAUSES[c]}{STOP}", slots)
            for a, b, c in (kinds[:3], kinds[3:])
        )
    parts = []
    for _ in range(2):
        task = CATEGORIES[rng.choice([name for name in CATEGORIES if name != "open_qa"])](lore, rng, 0, False)
        parts += [task.input or say(rng, task.topic, task.slots), say(rng, rng.choice(task.answers), task.slots)]
    return " ".join(parts)


def generate_world(seed: int, instructions: int, evaluation: int, plain_text_documents: int) -> World:
    """Generate the sets of the world of `seed`; the same arguments give the same world.

    Rows are {"instruction", "input", "output", "category"}; `output` is a list of `REFERENCES` valid answers, drawn
    independently. `self_inst` asks with wordings, and `vicuna` for combinations of facts or concepts, that no row of
    `instructions` has (`vicuna` has no input, so only the four categories without one); each holds `evaluation` rows.
    No two rows of any sets share a prompt (see `normalise_prompt`).
    Raises DataError when a set is larger than its supply of distinct prompts.
    """
    lore = draw_lore(seed)
    taken: set[str] = set()
    self_inst = draw_rows(lore, seed, "self_inst", evaluation, taken, wording=1)
    vicuna = draw_rows(lore, seed, "vicuna", evaluation, taken, categories=WITHOUT_INPUT, unseen=True)
    rows = draw_rows(lore, seed, "instructions", instructions, taken)
    rng = random.Random(f"{seed}/plain_text")
    plain_text = [draw_document(lore, rng) for _ in range(plain_text_documents)]
    return World(rows, self_inst, vicuna, plain_text)
