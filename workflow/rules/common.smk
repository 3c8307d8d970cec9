"""Shared by all jobs: the checked config, each job's command line with its invalidation key, and error reporting."""

import atexit
import gc
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(str(workflow.current_basedir)).parents[1]
WORKFLOW = REPOSITORY / "workflow"
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=str(WORKFLOW))

from snakemake.common import NOTHING_TO_BE_DONE_MSG

from distill.audit.manifest import describe_manifest, write_manifest
from distill.audit.staleness import note_stale
from distill.config.base import expand_path
from distill.config.keys import config_key
from distill.config.remote import check_key
from distill.config.sources import FileSource
from distill.config.tracker import KEYS, check_tracker, project_of
from distill.data.counts import describe_left_out
from distill.errors import DistillError
from distill.evaluation.selection import selecting_metric
from distill.files import ROOT_MANIFEST, digest_file, list_files
from distill.lease import devices
from distill.methods.needs import needed_folders
from distill.provenance.code import code_digest, keep_parses
from distill.provenance.edits import check_unedited
from distill.provenance.failures import last_errors
from distill.provenance.runs import begin_run
from distill.provenance.settings import as_argument
from distill.planning.rates import read_measures
from distill.slurm import check_executor, hide_key, longest_minutes, name_lost_nodes, pass_on_restarts
from distill.study.costs import Estimates
from distill.study.load import check_config_files, load_study
from distill.study.parts import base_model, judged_pairs, measured_systems, run_of, sources_of, start_of
from distill.study.places import check_locks, check_places, check_writable, results_folder, store_of
from distill.study.scored_sets import describe_unread
from distill.study.stages import STAGES, names_of, slice_of
from distill.study.submitted import check_submitted, note_submitted
from distill.study.systems import MAIN_STUDENT

try:
    check_config_files(workflow.configfiles)
    STUDY = load_study(config)
    check_locks(STUDY, REPOSITORY)
    RESULTS = str(results_folder(STUDY))
    STORE = store_of(STUDY)
    ESTIMATES = Estimates(STUDY, read_measures())
    if workflow.remote_exec:
        pass_on_restarts(os.environ)
        check_submitted(STUDY, REPOSITORY, os.environ)
    if workflow.is_main_process:  # jobs that run in a process or on a node of their own need not look again
        check_places(STUDY)
        check_unedited(Path(RESULTS))
        note_stale(STUDY, Path(RESULTS))
        OTHERS = begin_run(Path(".snakemake"), RESULTS)
except DistillError as error:
    sys.exit(f"error: {error}")

REMOTE = {name: stage.asks(STUDY) for name, stage in STAGES.items() if stage.asks(STUDY)}
KEY_FILES = {}
if workflow.is_main_process and workflow.nodes is not None:
    # This process submits jobs, which inherit its environment. What is quick runs here; so does what asks over a
    # network, which alone gets its key.
    note_submitted(STUDY, REPOSITORY, os.environ)
    KEY_FILES = {name: hide_key(os.environ, name) for name in {remote.api_key_env for remote in REMOTE.values()}}
    for name in KEYS:
        os.environ.pop(name, None)
    if plugin := sys.modules.get("snakemake_executor_plugin_slurm"):
        name_lost_nodes(plugin.Executor)
    workflow.localrules(*(rule for rule, stage in STAGES.items() if stage.software == "light"))

# As many jobs as this machine has GPUs for run at a time, so that none that waits for one holds cores. What the user
# passes counts instead; nodes are set where jobs run elsewhere.
if workflow.is_main_process and workflow.nodes is None and "gpu" not in workflow.global_resources:
    asked = any(stage.gpus(STUDY) for stage in STAGES.values())
    if asked or any("gpu" in given for given in workflow.resource_settings.overwrite_resources.values()):
        if found := len(devices()):  # a plan made on a machine without GPUs shows what the jobs ask for
            workflow.register_resource("gpu", found)

# What is loaded lives until the end: the collector need not walk through it at each pass, nor at exit.
gc.freeze()
atexit.register(gc.freeze)

# Beside Python's own compiled files.
keep_parses(WORKFLOW / "__pycache__" / "code.json")


wildcard_constraints:
    **{
        name: "|".join(map(re.escape, names_of(STUDY, name)))
        for name in ("source", "dataset", "role", "system", "shard")
    },


def wildcards_of(rule):
    """What the wildcard of a rule may stand for, where that is less than it may elsewhere."""
    return {"system": "|".join(re.escape(job["system"]) for job in STAGES[rule].each(STUDY)) or "(?!)"}


def software(rule):
    """The interpreter and the lock of a rule's software family."""
    return getattr(STUDY.environments, STAGES[rule].software)


def conda_file(rule):
    """The conda file beside the lock of a rule's software family."""
    return str(REPOSITORY / Path(software(rule).lock).with_suffix(".yaml"))


def here(path):
    """A file of the repository, or a command that has no folder, as a word of a shell's line in the working directory."""
    is_here = "/" not in path or Path.cwd() == REPOSITORY
    return shlex.quote(path if is_here else str(REPOSITORY / path))


def threads_alone(stage):
    """The threads of a job beside which no other may run: all that there are here. Where another machine runs the job,
    it has its own share of that.
    """
    own = stage.threads(STUDY)
    return own if workflow.nodes is not None else max(own, workflow.resource_settings.cores or 1)


@cache
def longest_of(partition):
    """The longest time that a Slurm job may ask for, where this process submits jobs; a longer one would never start."""
    found = longest_minutes(partition) if workflow.is_main_process and workflow.nodes is not None else None
    return found or sys.maxsize


def partition_of(rule):
    """The Slurm partition that the user named for a rule's jobs."""
    given = workflow.resource_settings
    for resources in (given.overwrite_resources.get(rule, {}), given.default_resources or {}):
        if "slurm_partition" in resources:
            found = resources["slurm_partition"]
            return str(getattr(found, "value", found))


def resources_of(rule):
    """What a rule's jobs ask for: their plan with a margin, and more at each try."""
    stage = STAGES[rule]

    def minutes(wildcards, attempt):
        return min(stage.ask_minutes(ESTIMATES, attempt, **dict(wildcards.items())), longest_of(partition_of(rule)))

    return {
        "mem_mb": lambda wildcards, attempt: stage.ask_memory_mb(ESTIMATES, attempt, **dict(wildcards.items())),
        "runtime": minutes,
        "gpu": stage.gpus(STUDY),
        # As the Slurm plugin has it: a job of several nodes starts its own processes on them.
        **(
            {"nodes": nodes, "tasks": nodes, "cpus_per_task": stage.threads(STUDY) // nodes, "mpi": "srun"}
            if (nodes := stage.nodes(STUDY)) > 1
            else {}
        ),
    }


def launcher(rule):
    """How a job is started: `distill.launch` where it has more than one process, asks for GPUs or is a Slurm job, the
    interpreter, the script, where and how often it keeps work in progress, and what it leaves of finished work.

    No part of its invalidation key: Snakemake takes no parameter that sees `input` into account.
    """

    def start(wildcards, input, resources):
        stage = STAGES[rule]
        python, processes = here(software(rule).python), stage.processes(STUDY)
        # A scheduler of a cluster gives its jobs devices itself.
        gpus = 0 if workflow.remote_exec else max(stage.gpus(STUDY), resources.get("gpu", 0))
        is_slurm_job = workflow.remote_exec and "SLURM_JOB_ID" in os.environ
        options = f"--gpus {gpus} " * bool(gpus) + "--requeue " * is_slurm_job
        if is_slurm_job and (nodes := stage.nodes(STUDY)) > 1:
            options += f"--nodes {nodes} --node-gpus {resources.get('gpu', 0) // nodes} "
        if own := stage.own_gpus(STUDY):
            options += f"--own-gpus {own} "
        group = f"{python} -m distill.launch {options}{processes} " if processes > 1 or options else ""
        name = REMOTE[rule].api_key_env if rule in REMOTE else None
        secret = f'{name}="$(cat {KEY_FILES[name]})" ' if KEY_FILES.get(name) else ""
        kept = f"--state {shlex.quote(RESULTS)}/.state --save-every-minutes {STUDY.save_every_minutes:g}"
        pruned = f" --keep-checkpoints {STUDY.keep_checkpoints}" if rule == "select_checkpoint" else ""
        is_shown = STUDY.tracker and stage.trains
        shown = f" --tracker {STUDY.tracker} {shlex.quote(project_of(STUDY.title))}" if is_shown else ""
        shared = f" --store {shlex.quote(STORE)}" if STORE else ""
        # Snakemake sets OMP_NUM_THREADS to the threads that the rule holds, of which such a one uses its own alone.
        threads = f"OMP_NUM_THREADS={stage.threads(STUDY)} " if stage.alone else ""
        script = here(f"workflow/scripts/{rule}.py")
        return f"{threads}{secret}{group}{python} {script} {kept}{pruned}{shown}{shared}"

    return start


def input_flags(wildcards, input):
    """A job's inputs as flags of its script, by their names in the rule."""
    return " ".join(
        f"--{name.replace('_', '-')} {shlex.join(files if isinstance(files, list) else [files])}"
        for name, files in input.items()
    )


def key(rule):
    """The invalidation key of a rule's jobs, which their scripts also take and record.

    It is a parameter of the rule, so a job reruns when its slice of the config, its code or its locked environment
    changed.
    """

    def flags(wildcards):
        names = tuple(STAGES[rule].modules(STUDY, **wildcards))
        settings = as_argument(slice_of(STUDY, rule, **wildcards).model_dump_json(), Path(RESULTS) / ".state")
        lock = digest_file(REPOSITORY / software(rule).lock)[:16]
        code = code_digest(WORKFLOW / "scripts" / f"{rule}.py", WORKFLOW, names)
        return f"--settings {shlex.quote(settings)} --code {code} --lock {lock}"

    return flags


def print_others():
    """Who else makes these results, printed after Snakemake's words on locks, which do not know it."""
    print(*OTHERS, sep="\n", file=sys.stderr)


if workflow.is_main_process and OTHERS:
    atexit.register(print_others)


def last_words(digest):
    """Where to look, and the digest that stands for the whole study."""
    is_asked = any(job.name == "render_report" for job in workflow.dag.jobs)
    return [*[f"Report: {RESULTS}/report.html"] * is_asked, describe_manifest(RESULTS, digest)]


def see_nothing(record):
    """Lets the same words end a run that has nothing to do, of which Snakemake tells no hook."""
    if record.msg == NOTHING_TO_BE_DONE_MSG and (manifest := Path(RESULTS) / ROOT_MANIFEST).is_file():
        atexit.register(print, *last_words(digest_file(manifest)), sep="\n", file=sys.stderr)
    return True


def print_errors(log):
    """Why the run failed, a line each failed job, printed after everything that Snakemake has to say."""
    if Path(log).is_file():
        for line in last_errors(Path(log).read_text(errors="replace"), os.path.relpath(log)):
            print(line, file=sys.stderr)


if workflow.is_main_process:
    for log in workflow.logger_manager.get_logfile():
        atexit.register(print_errors, log)
        logger.addFilter(see_nothing)


onstart:
    # Who only looks needs no right to write.
    try:
        check_executor(
            workflow.storage_settings.default_storage_provider,
            getattr(workflow.executor_settings, "status_command", None),
        )
        check_writable(Path(RESULTS))
        needed = {job.rule.name for job in workflow.dag.needrun_jobs()}
        for name, remote in REMOTE.items():
            if name in needed and remote.kind in ("openai", "api"):
                check_key(remote, os.environ)
        if any(STAGES[name].trains for name in needed & STAGES.keys()):
            check_tracker(STUDY.tracker, here(software("train_run").python))
    except DistillError as error:
        sys.exit(f"error: {error}")
    atexit.unregister(print_others)
    if reused := len(workflow.dag.jobs) - len(workflow.dag):
        logger.info(f"Reused: {reused} finished jobs")


onsuccess:
    atexit.unregister(print_errors)
    for line in (*describe_left_out(Path(RESULTS)), *describe_unread(STUDY, Path(RESULTS))):
        print(line, file=sys.stderr)
    # Printed after everything that Snakemake has to say.
    atexit.register(print, *last_words(write_manifest(RESULTS)), sep="\n", file=sys.stderr)
