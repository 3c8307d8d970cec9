"""Starts one command as the processes of one group on this machine: `python -m distill.launch PROCESSES COMMAND...`.

With `--gpus N` it waits until so many are free, and the processes see these alone, with `--own-gpus K` each K of them.
Each of several finds its RANK, LOCAL_RANK and WORLD_SIZE in its environment, and in `MEETING` the file in which they
meet, which unlike torchrun's store does not listen to the network. A request to stop is passed on to all. Where one
fails, the others are stopped; exit code and last line are those of the one that failed first. No process outlives this
one.

With `--nodes N` in a Slurm job of so many nodes, srun starts the group's share on each of them; the processes meet at
the first node. With `--requeue` this process is the work of a Slurm job: some time before the job's end it asks for a
stop, and where that saved work, Slurm starts the job again.
"""

import argparse
import io
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from distill.errors import DistillError
from distill.lease import VISIBLE, Lease, leased
from distill.meeting import MEETING
from distill.slurm import Walltime, meeting_point, on_each_node, requeue
from distill.stopping import SIGNALS, Stopped, die_with, watched

_PATIENCE_S, _LAST_WORDS_S = 60, 1  # what a process gets to end once another has failed; its words, once it has ended


class _Group:
    """The processes, and the last line of each and of all on the standard error.

    Args:
        processes: on this machine.
        command: the words of each.
        meeting: where they meet.
        lease: the devices that they share.
        own_gpus: devices of each that no other sees; 0 where each sees all.
        first: the rank of the first one.
        world: processes of all machines.
    """

    def __init__(
        self,
        processes: int,
        command: Sequence[str],
        meeting: str,
        lease: Lease,
        own_gpus: int = 0,
        first: int = 0,
        world: int = 1,
    ):
        world = max(world, processes)
        self.asked = 0
        self.said = [b""] * processes
        self.last = b""
        self._lock, self._ended = threading.Lock(), queue.SimpleQueue[int]()
        shared, parent = os.environ | lease.environment, os.getpid()
        if world > 1:  # a single one would make some libraries believe in a group
            shared |= {"WORLD_SIZE": str(world), MEETING: meeting}
        names = shared.get(VISIBLE, "").split(",")
        self.processes: list[subprocess.Popen[bytes]] = []
        for number in SIGNALS:  # before there is a process that one could end this one without
            signal.signal(number, self.ask)
        self.processes = [
            subprocess.Popen(
                command,
                env=shared
                | ({"RANK": str(first + rank), "LOCAL_RANK": str(rank)} if world > 1 else {})
                | ({VISIBLE: ",".join(names[rank * own_gpus :][:own_gpus])} if own_gpus else {}),
                stderr=subprocess.PIPE,
                pass_fds=lease.descriptors,
                preexec_fn=lambda: die_with(parent),
            )
            for rank in range(processes)
        ]
        if self.asked:
            self.ask(self.asked)
        for rank in range(processes):
            threading.Thread(target=self._watch, args=(rank,), daemon=True).start()

    def _watch(self, rank: int) -> None:
        """Tells when a process has ended and all it said has been passed on."""
        follower = threading.Thread(target=self._follow, args=(rank,), daemon=True)
        follower.start()
        self.processes[rank].wait()
        follower.join(_LAST_WORDS_S)  # a child of its own may hold the pipe open
        self._ended.put(rank)

    def _follow(self, rank: int) -> None:
        """Passes on what a process says, line by line, so that those of several do not mix."""
        stream, rest = self.processes[rank].stderr, b""
        assert isinstance(stream, io.BufferedReader)
        while part := stream.read1():
            end = 1 + max((rest := rest + part).rfind(b"\n"), rest.rfind(b"\r"))  # a progress bar ends no line
            self._say(rank, rest[:end])
            rest = rest[end:]
        self._say(rank, rest + b"\n" if rest else b"")

    def _say(self, rank: int, lines: bytes) -> None:
        if lines:
            with self._lock:
                with suppress(OSError):  # of a full disk; who no longer listened would hold the process up
                    sys.stderr.buffer.write(lines)
                    sys.stderr.flush()
                if own := [line for line in lines.splitlines() if not line.startswith(b"srun: ")]:
                    self.said[rank] = self.last = own[-1]

    def ask(self, number: int, _: FrameType | None = None) -> None:
        """Passes a signal on to all that live."""
        self.asked = self.asked or number
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def wait(self) -> tuple[int, int]:
        """Returns the process that failed first, and its code as `subprocess` has it; (0, 0) where none did."""
        first = 0, 0
        for _ in self.processes:
            try:
                rank = self._ended.get(timeout=_PATIENCE_S if first[1] else None)
            except queue.Empty:
                for process in self.processes:
                    process.kill()
                rank = self._ended.get()
            code = self.processes[rank].returncode
            if code and not first[1]:
                first = rank, code
                if not self.asked:
                    for process in self.processes:
                        process.terminate()
        return first


def _saved(rule: str, command: Sequence[str]) -> set[tuple[str, int]]:
    """Returns the files that a rule's jobs have saved, and when; how often they were started is no work."""
    root = Path(command[command.index("--state") + 1]) if "--state" in command else Path(os.devnull)
    found = set()
    # Other jobs remove folders meanwhile, which ends a recursive glob.
    for folder, _, names in (entry for place in root.glob(f"{rule}-*") for entry in os.walk(place)):
        for path in (os.path.join(folder, name) for name in names if name != "tries"):
            with suppress(FileNotFoundError):
                found.add((path, os.stat(path).st_mtime_ns))
    return found


def launch(
    processes: int,
    command: Sequence[str],
    gpus: int = 0,
    own_gpus: int = 0,
    is_requeued: bool = False,
    first: int = 0,
    world: int = 1,
) -> int:
    """Runs the command as so many processes; returns the exit code, 128 + the signal's number where one ended it.

    Args:
        processes: of the command, on this machine.
        command: the words of each.
        gpus: devices that all of them share; 0 for none, or for those that a scheduler has given.
        own_gpus: those of each that no other sees; 0 where each sees all.
        is_requeued: whether to save before the end of the Slurm job that this is, and to let Slurm start it again.
        first: the rank of the first one.
        world: processes of all machines, which meet where `MEETING` says.
    """
    rule = next((Path(word).stem for word in command if word.endswith(".py")), command[0])
    with ExitStack() as stack:
        try:
            with watched():
                lease = stack.enter_context(leased(gpus))
        except DistillError as error:
            print(f"error: {rule}: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, Stopped) else 2
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="distill-"))
        meeting = os.environ[MEETING] if world > processes else f"{folder}/meeting"
        group = _Group(processes, command, meeting, lease, own_gpus, first, world)
        if is_requeued:
            before, walltime = _saved(rule, command), Walltime(group.ask)
            walltime.start()
        rank, code = group.wait()
        if code and is_requeued and walltime.is_over:
            if _saved(rule, command) - before:
                requeue()
            else:
                print(
                    f"error: {rule}: runtime: expected enough to save some work before the job's end, found none "
                    "saved; ask for more (set-resources in the profile)",
                    file=sys.stderr,
                )
                return 2
    if code:
        line = group.said[rank].decode(errors="replace")
        if not line.startswith("error: "):
            ended = f"with {code}" if code > 0 else f"by {signal.Signals(-code).name}"
            reason = Stopped(group.asked) if group.asked else f"process {rank} of {processes} ended {ended}; rerun"
            print(f"error: {rule}: {reason}", file=sys.stderr)
        elif group.last != group.said[rank]:
            print(line, file=sys.stderr)
    return code if code >= 0 else 128 - code


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m distill.launch", description=__doc__)
    parser.add_argument("--gpus", type=int, default=0, help="devices that the processes share")
    parser.add_argument("--own-gpus", type=int, default=0, help="of each process, which sees these alone; 0: all")
    parser.add_argument("--requeue", action="store_true", help="save before the Slurm job's end, and start it again")
    parser.add_argument("--nodes", type=int, default=1, help="of the Slurm job, which share the processes evenly")
    parser.add_argument("--node-gpus", type=int, default=0, help="devices of each node's processes")
    parser.add_argument("--part-of", type=int, default=0, help="this is a node's share of so many processes")
    parser.add_argument("processes", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if world := options.part_of:
        first = int(os.environ["SLURM_PROCID"]) * options.processes
        return launch(options.processes, options.command, first=first, world=world)
    processes, command = options.processes, options.command
    if options.nodes > 1:
        share = [sys.executable, "-m", "distill.launch", "--part-of", str(processes), str(processes // options.nodes)]
        try:
            os.environ[MEETING] = meeting_point()
        except DistillError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        processes, command = 1, [*on_each_node(options.nodes, options.node_gpus), *share, *command]
    return launch(processes, command, options.gpus, options.own_gpus, options.requeue)


if __name__ == "__main__":
    sys.exit(_main())
