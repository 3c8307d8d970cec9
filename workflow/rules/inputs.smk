"""What a rule takes in where the config decides it."""


def local_file(wildcards):
    """The file of a local source, so that its bytes are part of the key."""
    source = sources_of(STUDY)[wildcards.source]
    return (
        {"file": str(expand_path(source.path, config_key(wildcards.source)))} if isinstance(source, FileSource) else {}
    )


def tokenizer_texts(wildcards):
    """The texts that a scratch model's tokenizer is trained on; a given model brings its own."""
    if STUDY.models.teacher.kind != "scratch":
        return {"file": model_files(STUDY.models.teacher)}
    return {name: f"{RESULTS}/data/sources/{name}/COMPLETE" for name in ("instructions", "plain_text")}


def held_out_sources(wildcards):
    """Sets from outside the split whose prompts must leave train."""
    flagged = [name for name, source in sources_of(STUDY).items() if getattr(source, "held_out_of_train", False)]
    return [f"{RESULTS}/data/sources/{name}/COMPLETE" for name in flagged]


def evaluation_source(name):
    """Where an evaluation set's rows come from: the split, or its own source."""
    source = STUDY.data.dev if name == "dev" else STUDY.data.evaluation[name]
    folder = {"split": "split", "preferences": "pairs"}.get(source.kind, f"sources/{name}")
    return f"{RESULTS}/data/{folder}/COMPLETE"


def left_out_of_dev(wildcards):
    """The rows of the test sets whose prompts leave dev."""
    return [evaluation_source(name) for name in STUDY.data.dev.leave_out] if wildcards.dataset == "dev" else []


def dev_to_compare(wildcards):
    """Dev, of which a test set may not have a prompt; so dev itself never depends on a set that it does not name."""
    return [] if wildcards.dataset == "dev" else f"{RESULTS}/data/evaluation/dev/COMPLETE"


def prompts_outside_pairs(wildcards):
    """The gathered sets whose prompts no preference pair may have."""
    return [f"{RESULTS}/data/sources/{name}/COMPLETE" for name in sources_of(STUDY) if name != "plain_text"]


def pair_files(wildcards):
    """The files of preference pairs that the config names, if any."""
    source = STUDY.preferences.pairs
    paths = (source.train, source.test) if source.kind == "file" else ()
    return [str(expand_path(path, "preferences.pairs")) for path in paths]


def base_inputs(wildcards):
    """What a base model is made from."""
    model = base_model(STUDY, wildcards.role)
    if model.kind == "scratch":
        return {"plain_text": f"{RESULTS}/data/sources/plain_text/COMPLETE"}
    if model.kind == "pruned":
        return {"teacher_base": f"{RESULTS}/bases/teacher/COMPLETE"}
    return {"file": model_files(model)}


def given_model(role):
    """The system from outside whose model is checked for a role, if no run starts at the role's base; else None."""
    first = next(system for system in STUDY.systems.values() if (system.student or "teacher") == role)
    needs_base = role == MAIN_STUDENT and any(run.start == "base" for run in STUDY.runs.values())
    return first if first.given and not needs_base else None


def model_to_check(wildcards):
    """The model whose vocabulary is compared: its base, or the one from outside if no run starts at the base."""
    given = given_model(wildcards.role)
    return external_model(given) if given else f"{RESULTS}/bases/{wildcards.role}/COMPLETE"


def teacher_to_match(wildcards):
    """The teacher's vocabulary, which each student must share; that of one that only speaks is nobody's. Two models
    that the study begins from nothing have the tokenizer's both, so neither waits for the other.
    """
    roles = "teacher", wildcards.role
    if wildcards.role == "teacher" or STUDY.teacher.kind != "trained":
        return []
    if all(base_model(STUDY, role).kind == "scratch" and not given_model(role) for role in roles):
        return []
    return f"{RESULTS}/vocabularies/teacher/COMPLETE"


def adopted_model(wildcards):
    """The model that a system is without training: one from outside, or its base."""
    system = STUDY.systems[wildcards.system]
    return external_model(system) if system.given else f"{RESULTS}/bases/{system.student}/COMPLETE"


def external_model(system):
    """The files of a model from outside."""
    return [str(path) for path in list_files(expand_path(system.given, f"external.{system.name}"))]


def external_samples(wildcards):
    """The samples file that the config supplies, or the texts of a teacher that is asked, if any."""
    if STUDY.teacher.kind == "api":
        return f"{RESULTS}/texts/COMPLETE"
    path = STUDY.external.samples
    return str(expand_path(path, "external.samples")) if path else []


SHARDS = range(STUDY.teacher_samples.shards)


def start_candidate(wildcards):
    """The model that a run starts from is a candidate of selection: a method must not publish less than it was given.
    A base is none: it was never tuned to answer, so nothing would be learnt from its score.
    """
    start = start_of(STUDY, wildcards.system)
    is_candidate = start and run_of(STUDY, wildcards.system).select != "last"
    return {"start": f"{RESULTS}/models/{start}/COMPLETE"} if is_candidate else {}


def role_of(wildcards):
    """Whose base and vocabulary a system has: the teacher or a student."""
    return STUDY.systems[wildcards.system].student or "teacher"


def run_inputs(wildcards):
    """What a training run needs besides the data: its start model and vocabulary, and what its method asks for."""
    run, role = run_of(STUDY, wildcards.system), role_of(wildcards)
    copied = getattr(run, "updates_of", None)
    # Epochs over the samples become updates only when the samples are there.
    counted = {"teacher_samples"} if copied and STUDY.runs[copied].training.steps is None else set()
    start = start_of(STUDY, wildcards.system)
    inputs = {
        "start": [f"models/{start}" if start else f"bases/{role}"],
        "vocabulary": [f"vocabularies/{role}"],
        **needed_folders(run.needs | counted, len(SHARDS)),
    }
    return {name: [f"{RESULTS}/{folder}/COMPLETE" for folder in folders] for name, folders in inputs.items()}


def validation_of(wildcards):
    """Dev answers are scored only for runs that select by a metric."""
    if not selecting_metric(run_of(STUDY, wildcards.system).select):
        return {}
    return {
        "validation": f"{RESULTS}/validation/{wildcards.system}/COMPLETE",
        "dev": f"{RESULTS}/data/evaluation/dev/COMPLETE",
    }


def model_files(model):
    """The files of a local base model, so that their bytes are part of the key; a hub model is pinned by its revision."""
    if model.kind != "folder":
        return []
    folder = expand_path(model.path, "models")
    return [str(folder / model.gguf_file)] if model.gguf_file else [str(path) for path in list_files(folder)]
