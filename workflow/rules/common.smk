"""Shared by all jobs: the checked config, each job's command line with its invalidation key, and error reporting."""

import atexit
import gc
import os
import re
import shlex
import sys
import time
from pathlib import Path

WORKFLOW = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(WORKFLOW))
os.environ.update(PYTHONPATH=str(WORKFLOW))

from distill.audit.manifest import describe_manifest, write_manifest
from distill.config.base import expand_path
from distill.config.data import FileSource, SplitSource, config_key
from distill.config.load import load_study
from distill.config.places import check_places
from distill.config.methods import method_module, plugin_files
from distill.config.slices import base_model, judged_pairs, run_of, slice_of, sources_of
from distill.config.systems import MAIN_STUDENT
from distill.data.counts import describe_left_out
from distill.errors import DistillError
from distill.files import digest_file, list_files
from distill.provenance.code import code_digest, keep_parses
from distill.provenance.edits import check_unedited
from distill.provenance.failures import last_errors

try:
    STUDY = load_study(config)
    if workflow.is_main_process:  # jobs that run in a process or on a node of their own need not look again
        check_places(STUDY)
        check_unedited(Path(STUDY.results))
except DistillError as error:
    sys.exit(f"error: {error}")

# What is loaded lives until the end: the collector need not walk through it at each pass, nor at exit.
gc.freeze()
atexit.register(gc.freeze)

# Beside Python's own compiled files.
keep_parses(WORKFLOW / "__pycache__" / "code.json")

RESULTS = STUDY.results
PLUGINS = plugin_files(STUDY.plugins)
ENVIRONMENTS = STUDY.environments
STARTED = time.time()


wildcard_constraints:
    source="|".join(sources_of(STUDY)),
    dataset="|".join(["dev", *STUDY.data.evaluation]),
    role="|".join(["teacher", "student", *STUDY.further_students]),
    run="|".join(map(re.escape, STUDY.systems)),
    system="|".join(map(re.escape, STUDY.systems)),
    shard=r"\d+",


def conda_file(family):
    """The conda file beside the lock of a software family."""
    return str(Path(workflow.basedir) / Path(getattr(ENVIRONMENTS, family).lock).with_suffix(".yaml"))


def launcher(family, processes=1):
    """The interpreter of a software family; torchrun where a stage has more than one process."""
    python = getattr(ENVIRONMENTS, family).python
    if processes == 1:
        return python
    return f"{python} -m torch.distributed.run --standalone --nproc-per-node={processes} --"


def input_flags(wildcards, input):
    """A job's inputs as flags of its script, by their names in the rule."""
    return " ".join(
        f"--{name.replace('_', '-')} {shlex.join(files if isinstance(files, list) else [files])}"
        for name, files in input.items()
    )


def method_code(wildcards):
    """What a training job loads by name: the module of its method, or the file of one outside the package."""
    method = run_of(STUDY, wildcards.run).method
    return [PLUGINS.get(method, method_module(method))]


def stage(rule, family, processes=1, modules=None):
    """The command line of a rule's jobs without their inputs: interpreter, script, and the rest of the invalidation key.

    It is a parameter of the rule, so a job reruns when its slice of the config, its code or its locked environment changed.
    It depends on wildcards alone: Snakemake takes no parameter that sees `input` into account. `modules` gives what the
    script loads by name.
    """

    def command(wildcards):
        names = tuple(modules(wildcards)) if modules else ()
        settings = slice_of(STUDY, rule, **wildcards).model_dump_json()
        script = WORKFLOW / "scripts" / f"{rule}.py"
        return " ".join(
            [
                launcher(family, processes),
                f"workflow/scripts/{rule}.py",
                f"--settings {shlex.quote(settings)}",
                f"--code {code_digest(script, WORKFLOW, names)}",
                f"--lock {digest_file(Path(workflow.basedir) / getattr(ENVIRONMENTS, family).lock)[:16]}",
                f"--state {shlex.quote(RESULTS)}/.state",
            ]
        )

    return command


def print_errors():
    """A failed job's one-line message, printed after everything that Snakemake has to say."""
    for line in last_errors(Path(RESULTS) / "logs", since=STARTED):
        print(line, file=sys.stderr)


onsuccess:
    for line in describe_left_out(Path(RESULTS)):
        print(line, file=sys.stderr)
    # The digest that stands for the whole study, printed after everything that Snakemake has to say.
    atexit.register(print, describe_manifest(RESULTS, write_manifest(RESULTS)), file=sys.stderr)


onerror:
    atexit.register(print_errors)
