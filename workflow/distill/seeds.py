"""Seeds from what they are for, never from a batch position or an order of work."""

from distill.files import digest_value


def stage_seed(*parts: int | str) -> int:
    """Returns a seed in [0, 2^63) from (study seed, stage, item...)."""
    return int(digest_value(list(parts))[:16], 16) >> 1


def sequence_seed(seed: int, example_id: str, sample: int) -> int:
    """Returns the seed of one sampled response in [0, 2^31), as sampling engines take it."""
    return int(digest_value([seed, example_id, sample])[:8], 16) >> 1
