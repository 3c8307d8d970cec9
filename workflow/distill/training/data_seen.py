"""What a run's updates drew from the data."""

from typing import Any

from distill.files import digest_value
from distill.training.loop import TrainingPlan
from distill.training.task import Task


def data_seen(task: Task, plan: TrainingPlan) -> dict[str, Any]:
    """Returns what all updates of a run drew, its start's training not among it.

    Returns:
        {updates, sequences, prompts, prompts_sha256, responses, labelled_rows}: sequences with repetitions; distinct
        prompts and the digest of their set; distinct responses that were there before the run (None where it samples
        them itself), and those among them that are labels of the data. The last four are None where the task does not
        tell what its items are.
    """
    drawn = {
        (index, item)
        for step in range(plan.steps)
        for index in plan.indices(step, task.items)
        if (item := task.drawn(index, step))
    }
    prompts = {item.prompt for _, item in drawn}
    stored = {index: item.is_labelled for index, item in drawn if item.is_stored}
    return {
        "updates": plan.steps,
        "sequences": plan.steps * plan.training.batch,
        "prompts": len(prompts) or None,
        "prompts_sha256": digest_value(sorted(prompts)) if prompts else None,
        "responses": len(stored) or None,
        "labelled_rows": sum(stored.values()) if prompts else None,
    }
