"""DeepSpeed around a causal language model: one optimiser update at a time, and a state that resumes exactly."""

import math
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from distill.config.deepspeed import DeepSpeed
from distill.config.training import Training
from distill.files import read_json, write_json
from distill.losses.states import States
from distill.meeting import MEETING
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch
from distill.startup import starting
from distill.training.optimiser_state import OptimiserState

_SCHEDULE = "schedule.json"
_REMOTE = "tcp://"
_PATIENCE = timedelta(hours=2)
"""How long a process waits for another one, which may evaluate, or read and write large states, alone. torch's own 5 to
30 minutes end such trainings; where a process fails, `distill.launch` ends the others.
"""


def schedule(training: Training, total_steps: int) -> Callable[[int], float]:
    """Returns the factor on the peak learning rate at each update: linear warm-up, then cosine to 0 or constant."""
    horizon = training.schedule_steps or total_steps

    def factor(step: int) -> float:
        if step < training.warmup_steps:
            return (step + 1) / training.warmup_steps
        if training.scheduler == "constant":
            return 1.0
        progress = (step - training.warmup_steps) / max(1, horizon - training.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def local_device(settings: DeepSpeed) -> str:
    """Returns this process's device: the CPU, or the GPU of its local rank."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if settings.device == "cuda" else "cpu"


def _store(meeting: str, rank: int, world: int) -> torch.distributed.Store:
    """Returns the store in which the processes of a group find each other."""
    if not meeting:
        return torch.distributed.HashStore()
    if not meeting.startswith(_REMOTE):
        return torch.distributed.FileStore(meeting, world)
    host, port = meeting.removeprefix(_REMOTE).rsplit(":", 1)
    if rank:
        return torch.distributed.TCPStore(host, int(port), world, timeout=_PATIENCE)
    listener = socket.create_server((host, int(port)))
    # It takes the socket over, and would otherwise listen on all interfaces.
    own = os.dup(listener.fileno())
    listener.close()
    return torch.distributed.TCPStore(
        host, int(port), world, is_master=True, timeout=_PATIENCE, master_listen_fd=own, use_libuv=False
    )


def _start_distributed(settings: DeepSpeed) -> Any:
    """Imports DeepSpeed for the device and joins the process group; those of one group are named by `distill.launch`.

    On one machine they meet in memory or in a file and talk over the loopback interface, so nothing listens to the
    network (torch's TCP store would, on every interface). On several the first one listens at the address at which the
    others reach it, and libraries choose the interface.
    """
    meeting = os.environ.get(MEETING, "")
    os.environ.setdefault("DS_ACCELERATOR", settings.device)
    os.environ.setdefault("LOCAL_RANK", "0")
    if not meeting.startswith(_REMOTE):
        loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    with starting():
        import deepspeed
        from deepspeed.utils import logger

    logger.setLevel("WARNING")
    if settings.device == "cpu":
        # A shared-memory collective that would be compiled for a minute; gloo does its work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "gloo" if settings.device == "cpu" else "nccl"
    if not torch.distributed.is_initialized():
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        store = _store(meeting, rank, world)
        store.set_timeout(_PATIENCE)
        torch.distributed.init_process_group(backend, timeout=_PATIENCE, store=store, rank=rank, world_size=world)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    return deepspeed


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns AdamW's parameter groups: matrices and embeddings decay, vectors (biases and norms) do not."""
    matrices, vectors = ([own for own in model.parameters() if (own.ndim > 1) == many] for many in (True, False))
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class TrainingEngine:
    """A model under DeepSpeed with AdamW.

    Attributes:
        model: the wrapped model; its weights are whole on every rank (ZeRO 0 to 2).
        device, rank, world: where this process runs.
        accumulation: micro-batches an update.
    """

    def __init__(self, model: PackedModel, training: Training, settings: DeepSpeed, total_steps: int):
        torch.set_num_threads(settings.threads)
        deepspeed = _start_distributed(settings)
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.model = model
        if settings.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        self.accumulation = training.batch // (training.micro_batch * self.world)
        groups = decay_groups(model, training.weight_decay)
        parameters = [group["params"] for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(
            groups,
            lr=training.learning_rate,
            betas=(training.beta1, training.beta2),
            eps=training.epsilon,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(training, total_steps))
        first_rate = scheduler.get_last_lr()[0]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        self._engine, _, _, self._scheduler = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=scheduler,
            config={
                "train_batch_size": training.batch,
                "train_micro_batch_size_per_gpu": training.micro_batch,
                "gradient_accumulation_steps": self.accumulation,
                "gradient_clipping": training.gradient_clip,
                "zero_optimization": {"stage": settings.zero_stage},
                "zero_allow_untested_optimizer": True,
                "bf16": {"enabled": settings.precision == "bf16"},
                "steps_per_print": 10**9,
            },
        )
        # In bf16 without ZeRO DeepSpeed has made an empty update by now: it must not count in AdamW's bias correction.
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = first_rate
        # DeepSpeed measures no gradient norm around an optimiser that it leaves unwrapped (fp32 without ZeRO).
        self._is_bare, self._bare_norm = self._engine.optimizer is optimizer, 0.0
        self._state = OptimiserState(model, parameters, optimizer)
        self.device = self._engine.device
        self._engine.train()

    def forward(self, batch: PackedBatch) -> States:
        """Returns the states of a micro-batch, on which a loss is ready for `backward`."""
        hidden, weight = self._engine(batch.input_ids, batch.sequence_lengths, batch.rows)
        return States(hidden, weight, self.model.vocabulary)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of one micro-batch's share of the global mean loss; steps after the last share.

        DeepSpeed divides by the accumulation and averages over ranks; the share is already of the global mean, so both
        are undone here.
        """
        self._engine.backward(loss * (self.accumulation * self.world))
        if self._is_bare and self._engine.is_gradient_accumulation_boundary():
            gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
            self._bare_norm = torch.nn.utils.get_total_norm(gradients).item()
        self._engine.step()

    def sum_over_ranks(self, values: list[float]) -> list[float]:
        """Returns the element-wise sum over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def largest_over_ranks(self, value: float) -> float:
        """Returns the largest value of all processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
        return tensor.item()

    def gather(self, values: list) -> list:
        """Returns the lists of all processes end to end, in rank order."""
        if self.world == 1:
            return values
        lists: list = [None] * self.world
        torch.distributed.all_gather_object(lists, values)
        return [value for part in lists for value in part]

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return self._scheduler.get_last_lr()[0]

    @property
    def gradient_norm(self) -> float:
        """The global gradient norm of the last update, before clipping."""
        return self._bare_norm if self._is_bare else float(self._engine.get_global_grad_norm())

    def wait(self) -> None:
        """Returns once every process is here."""
        if self.world > 1:
            torch.distributed.barrier()

    def save_state(self, folder: Path) -> None:
        """Writes weights, optimiser and schedule for `load_state`; every process calls it, the first writes.

        What is written does not depend on ZeRO's stage and the number of processes.
        """
        self._state.save(folder)
        if self.rank == 0:
            schedule = self._scheduler.state_dict()
            write_json(folder / _SCHEDULE, {"updates": self._state.updates, "scheduler": schedule})

    def load_state(self, folder: Path) -> None:
        """Continues from what `save_state` wrote; every process calls it."""
        saved = read_json(folder / _SCHEDULE)
        self._state.load(folder, saved["updates"])
        self._scheduler.load_state_dict(saved["scheduler"])
        for group, rate in zip(self._scheduler.optimizer.param_groups, self._scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
