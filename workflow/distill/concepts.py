"""The concepts that the embedded world talks about: what its grammar names, and what a metric finds in answers."""

import re

# Eight concepts of each kind; the words of a concept mean the same, the first is the most common.
CONCEPTS: dict[str, list[tuple[str, str, str]]] = {
    "home": [
        ("hill", "ridge", "slope"),
        ("lake", "pond", "pool"),
        ("wood", "grove", "trees"),
        ("shore", "beach", "coast"),
        ("river", "brook", "stream"),
        ("cave", "den", "hole"),
        ("field", "farm", "barn"),
        ("town", "street", "square"),
    ],
    "food": [
        ("bread", "loaf", "bun"),
        ("soup", "stew", "broth"),
        ("cake", "pie", "tart"),
        ("fish", "cod", "trout"),
        ("tea", "mint", "brew"),
        ("beans", "peas", "corn"),
        ("plum", "pear", "fig"),
        ("milk", "cream", "cheese"),
    ],
    "pet": [
        ("cat", "kitten", "lynx"),
        ("dog", "hound", "pup"),
        ("sheep", "goat", "lamb"),
        ("crow", "owl", "hawk"),
        ("frog", "toad", "newt"),
        ("horse", "pony", "mule"),
        ("bee", "moth", "ant"),
        ("mouse", "rat", "mole"),
    ],
    "thing": [
        ("bell", "horn", "drum"),
        ("boat", "ship", "raft"),
        ("lamp", "torch", "candle"),
        ("rope", "cord", "chain"),
        ("book", "map", "chart"),
        ("cup", "bowl", "jug"),
        ("hat", "cap", "hood"),
        ("coat", "cloak", "shirt"),
    ],
    "act": [
        ("sing", "hum", "chant"),
        ("walk", "stroll", "hike"),
        ("swim", "dive", "float"),
        ("sew", "knit", "weave"),
        ("dig", "plant", "grow"),
        ("read", "write", "study"),
        ("dance", "jump", "leap"),
        ("sleep", "nap", "rest"),
    ],
    "trait": [
        ("kind", "gentle", "sweet"),
        ("brave", "bold", "daring"),
        ("shy", "quiet", "meek"),
        ("wise", "clever", "smart"),
        ("merry", "jolly", "glad"),
        ("grim", "stern", "gruff"),
        ("quick", "swift", "fast"),
        ("slow", "calm", "lazy"),
    ],
    "time": [
        ("dawn", "sunrise", "first light"),
        ("morning", "breakfast", "nine"),
        ("noon", "midday", "lunch"),
        ("dusk", "sunset", "evening"),
        ("night", "midnight", "dark"),
        ("spring", "April", "May"),
        ("summer", "June", "July"),
        ("winter", "frost", "snow"),
    ],
}

_PHRASES = re.compile(r"\ba walk\b")  # the grammar's own words: no pastime
_CONCEPT_OF = {
    word.lower(): (kind, number)
    for kind, concepts in CONCEPTS.items()
    for number, words in enumerate(concepts)
    for word in words
}
_WORDS = re.compile(rf"\b({'|'.join(_CONCEPT_OF)})\b")


def named_concepts(text: str) -> set[tuple[str, int]]:
    """Returns the concepts that a text names: (kind, number) of the world. No word stands for two."""
    return {_CONCEPT_OF[word] for word in _WORDS.findall(_PHRASES.sub(" ", text.lower()))}
