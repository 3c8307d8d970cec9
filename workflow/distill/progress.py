"""Progress bars of stages, which their logs hold and the display on a terminal reads."""

from typing import Any

from tqdm import tqdm

_LEAST_S, _MOST_S, _SHARE = 1, 10, 20


class Progress(tqdm):
    """A bar that is printed each second at first, and less often the longer it runs, at last every ten seconds.

    So a person sees it move, and the log of a stage of days stays small.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, mininterval=_LEAST_S, **options)

    def display(self, *arguments: Any, **options: Any) -> None:
        """Prints the bar; see tqdm."""
        self.mininterval = min(_MOST_S, max(_LEAST_S, self.format_dict["elapsed"] / _SHARE))
        super().display(*arguments, **options)
