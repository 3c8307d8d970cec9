"""One update of Bellman Distill under every engine, in as many processes as it is started as; see test_training.py."""

import itertools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config

from distill.config.deepspeed import DeepSpeed
from distill.config.training import Training
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.section import Bellman
from distill.methods.bd.task import BellmanDistill, Trajectory
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import Sample
from distill.training.engine import TrainingEngine
from distill.training.loop import TrainingPlan, _update
from distill.training.plain_text import PlainText
from distill.training.teacher import LiveTeacher

VOCABULARY, ROWS = 60, 64
OBJECTIVES = {"sampled": Bellman(oos_action="include"), "released": Bellman(objective="released", p=0.8)}


class Case(NamedTuple):
    """What is trained how; `released` has the teacher's share in its plain-text term."""

    objective: str
    head: str
    precision: str
    zero_stage: int
    gradient_checkpointing: bool


CASES = [
    Case(*own) for own in itertools.product(OBJECTIVES, ("tied", "untied"), ("fp32", "bf16"), (0, 1, 2), (False, True))
]

# AdamW's first update with so large an epsilon is -100 times the gradient, whose scale is then seen.
RECIPE = Training(
    steps=1,
    batch=8,
    micro_batch=2,
    learning_rate=1e5,
    epsilon=1e3,
    weight_decay=0,
    gradient_clip=0,
    scheduler="constant",
)


def build_model(seed: int, head: str = "tied", width: int = 32) -> PackedModel:
    shape = {"hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": width // 16}
    tied = {"tie_word_embeddings": head == "tied", "initializer_range": 0.2, "num_key_value_heads": 1}
    torch.manual_seed(seed)
    config = Qwen2Config(vocab_size=ROWS, **shape, **tied)
    return PackedModel(AutoModelForCausalLM.from_config(config, dtype=torch.float32), VOCABULARY)


class Sets(list):
    """Candidate sets by sample."""

    def take(self, places: list[int]) -> CandidateSets:
        return CandidateSets.cat([self[place] for place in places])


@torch.no_grad()
def draw_responses(teacher: PackedModel) -> tuple[list[Trajectory], Sets]:
    """Random responses of many lengths, half of them cut, with the teacher's sets."""
    random, found, sets = np.random.default_rng(0), [], Sets()
    for number in range(RECIPE.batch):
        prompt, response = (random.integers(0, VOCABULARY, random.integers(1, 12)).tolist() for _ in range(2))
        states = teacher.states(pack_sequences([(prompt, response)], "cpu", with_final_state=True))
        found.append(Trajectory(Sample(f"{number}", 0, prompt, response, finished=number % 2 == 0), number))
        sets.append(top_p_sets(states.logits().softmax(-1), 0.8))
    return found, sets


def update(case: Case, responses: tuple[list[Trajectory], Sets], teacher: PackedModel) -> dict[str, torch.Tensor]:
    """Returns what an update adds to each weight, the loss, and the gradient norm."""
    model = build_model(2, case.head)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    settings = {name: getattr(case, name) for name in ("precision", "zero_stage", "gradient_checkpointing")}
    engine = TrainingEngine(model, RECIPE, DeepSpeed(**settings), 1)
    chunks = np.random.default_rng(1).integers(0, VOCABULARY, (20, 9))
    plain_text = PlainText(chunks, "cpu", *([LiveTeacher(teacher), 0.5] if case.objective == "released" else []))
    trajectories, sets = responses
    task = BellmanDistill(trajectories, [], sets, OBJECTIVES[case.objective], plain_text, 0.7, (1,), "cpu")
    row = _update(engine, task, TrainingPlan(1, "one", RECIPE, 1), 0)
    found = {name: weight.detach().float() - before[name] for name, weight in model.named_parameters()}
    return found | {name: torch.tensor(row[name]) for name in ("loss", "gradient_norm")}


def main(output: Path) -> None:
    """Writes the updates of all cases; of several processes those without checkpointing alone."""
    teacher, alone = build_model(1, width=48).eval(), os.environ.get("WORLD_SIZE", "1") == "1"
    responses, found = draw_responses(teacher), {}
    for number, case in enumerate(CASES):
        if alone or not case.gradient_checkpointing:
            found |= {f"{number}:{name}": tensor for name, tensor in update(case, responses, teacher).items()}
    if torch.distributed.get_rank() == 0:
        save_file(found, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
