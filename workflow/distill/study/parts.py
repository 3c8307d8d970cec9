"""What a study says of its systems, base models, sources and judged pairs."""

from distill.config.base_models import StudentModel
from distill.config.data import PreferenceTest, SplitSource
from distill.config.phase1 import Phase1Run
from distill.config.preferences import PreferenceTeacher
from distill.config.runs import Run
from distill.config.teacher import Teacher
from distill.methods.registry import method_section
from distill.study.study import Study
from distill.study.systems import BASE, MAIN_STUDENT, PHASE_1, PREFERENCE_TEACHER, TEACHER


def run_of(study: Study, name: str) -> Run:
    """Returns the section of a system's run; the teacher and phase 1 are runs of method sft, the preference teacher is
    one of dpo.

    A base that stands in phase 1's place has phase 1's section, of which nothing but its place in the tables is used.
    """
    system = study.systems[name]
    owner = study.further_students.get(system.student, study)
    section: Teacher | PreferenceTeacher | Phase1Run
    if study.preferences and system.run == PREFERENCE_TEACHER:
        method, start, section = "dpo", TEACHER, study.preferences.teacher
    elif system.run in (TEACHER, PHASE_1, BASE):
        method, start = "sft", "base"
        section = study.teacher if system.run == TEACHER else owner.phase1 or Phase1Run()
    else:
        return owner.runs[system.run]
    run = method_section(method)
    shared = {key: value for key, value in dict(section).items() if key in run.model_fields}
    return run(method=method, start=start, **shared)


def start_of(study: Study, name: str) -> str | None:
    """Returns the system whose model a system's training starts from; None for the base."""
    start = run_of(study, name).start
    own = study.systems[name].beside(start)
    # A given phase 1 serves every seed.
    return None if start == BASE else own if own in study.systems else start


def is_control(study: Study, name: str) -> bool:
    """Returns whether the other systems are judged against a system and compared with it: phase 1, which is a run of
    SFT, or the base in its place, and every run whose method is a control."""
    return bool(study.systems[name].student) and run_of(study, name).is_control


def base_model(study: Study, role: str) -> StudentModel:
    """Returns the base model of the teacher or of a student."""
    return study.further_students[role].model if role in study.further_students else getattr(study.models, role)


def judged_pairs(study: Study) -> list[tuple[str, str]]:
    """Returns the pairs to judge; by default each of the main student's runs that is no control with each control."""
    if study.judge.kind == "none":
        return []
    if study.judge.pairs:
        return study.judge.pairs
    own = [name for name, system in study.systems.items() if system.student == MAIN_STUDENT and system.is_first_seed]
    controls = [name for name in own if is_control(study, name)]
    return [(name, control) for name in own if name not in controls for control in controls]


def measured_systems(study: Study) -> list[str]:
    """Returns the systems whose models' cost to run is measured: of several training seeds the first."""
    return [name for name, system in study.systems.items() if system.is_first_seed] if study.efficiency.enabled else []


def sources_of(study: Study) -> dict[str, object]:
    """Returns the sources that are gathered from outside the split, by name."""
    data = study.data
    named = {"instructions": data.instructions, "plain_text": data.plain_text, "dev": data.dev, **data.evaluation}
    return {
        name: source
        for name, source in named.items()
        if source is not None and not isinstance(source, (SplitSource, PreferenceTest))
    }


def longest_sequence(study: Study) -> tuple[int, str]:
    """Returns the tokens of the longest sequence that any model of a study reads, and the config key that says so."""
    students = {"": study.runs} | {
        f"further_students.{name}.": own.runs for name, own in study.further_students.items()
    }
    answers = {
        "generation": study.generation,
        "teacher_samples": study.teacher_samples,
        **{f"data.evaluation.{name}": test for name, test in study.data.evaluation.items()},
        **{f"{key}runs.{name}": run for key, runs in students.items() for name, run in runs.items()},
    }
    lengths = {"data.max_total_tokens": study.data.max_total_tokens}
    if study.data.plain_text:
        lengths["data.plain_text_tokens"] = study.data.plain_text_tokens
    for key, section in answers.items():
        if longest := getattr(section, "max_new_tokens", None):
            lengths[f"data.max_prompt_tokens + {key}.max_new_tokens"] = study.data.max_prompt_tokens + longest
    return max((tokens, key) for key, tokens in lengths.items())
