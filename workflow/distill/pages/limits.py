"""What a study's numbers must not be compared on, and what does not repeat bit for bit."""

from collections.abc import Iterable

from distill.config.deepspeed import DeepSpeed
from distill.config.sampling import Sampling
from distill.pages import captions
from distill.report.table import metric_title
from distill.report.tables.win_rates import OVERLAP_JUDGE


def limits(judges: Iterable[str], metrics: Iterable[str], deepspeed: DeepSpeed, sampling: Sampling) -> list[str]:
    """Returns one sentence or more a limit.

    Args:
        judges: names of the judges behind the win rates.
        metrics: names of the evaluation sets' metrics.
        deepspeed: how the study trained.
        sampling: how it generated.
    """
    stages = (
        ("Training", deepspeed.device, deepspeed.precision, "fp32"),
        (f"Sampling with {sampling.engine}", sampling.device, sampling.dtype, "float32"),
    )
    inexact = [
        captions.INEXACT.format(stage=stage, device=device, arithmetic=arithmetic)
        for stage, device, arithmetic, exact in stages
        if (device, arithmetic) != ("cpu", exact)
    ]
    served = [judge for judge in dict.fromkeys(judges) if judge != OVERLAP_JUDGE]
    scores = metric_title({*metrics}, "Scores")
    general = [limit.format(scores=scores) for limit in captions.LIMITS]
    return [*general, *(inexact or [captions.EXACT]), *(captions.CHAT_JUDGE.format(judge=j) for j in served)]
