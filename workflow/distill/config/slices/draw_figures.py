"""The slice of the config that `draw_figures` depends on."""

from distill.config.base import Section


class DrawFigures(Section):
    """Slice of draw_figures.

    Attributes:
        recipes: each system's name without its training seed; they, `datasets` and `decodings` give the order.
        seed: of the bootstrap.
        labels: what stands for the name of a recipe.
        width: of the figures in inches.
    """

    recipes: dict[str, str]
    datasets: list[str]
    decodings: list[str]
    seed: int
    labels: dict[str, str] = {}
    width: float = 9.6
