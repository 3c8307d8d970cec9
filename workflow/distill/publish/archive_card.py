"""Model cards of the selected students in an archive, filled from records, selections and tables alone."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from distill.audit.archive import Archive, Artifact
from distill.data.model_card import (
    INVENTED,
    UNSTATED,
    UNTESTED,
    bullets,
    choice,
    licence_of,
    metadata,
    name_of,
    prompt_of,
    render,
    training_facts,
)
from distill.markdown import as_text, text_table
from distill.metrics.registry import load_metric
from distill.publish.libraries import audit_library
from distill.report.csv_tables import read_rows

Rows = list[dict[str, str]]


def _parts(artifacts: Iterable[Artifact]) -> Iterator[tuple[Artifact, str, dict[str, Any]]]:
    """Yields (artifact, what it is, its spec) of the data sources and base models among artifacts, by name."""
    for artifact in sorted(artifacts, key=lambda artifact: artifact.name):
        if artifact.rule == "gather_source":
            yield artifact, artifact.settings["name"], artifact.settings["source"]
        elif artifact.rule == "make_base":
            yield artifact, f"base of the {artifact.settings['role']}", artifact.settings["model"]


def licences_of(archive: Archive) -> str:
    """Returns one sentence on the licences of a study's data and base models."""
    stated = [f"{what} ({name_of(spec)}): {licence_of(spec)}" for _, what, spec in _parts(archive.artifacts.values())]
    return f"No licence is stated for the whole. {'; '.join(stated)}."


def _of_tables(archive: Archive, name: str, system: str) -> Rows:
    """Returns a system's rows of a table; none where the study has not come to its tables."""
    path = archive.results / "tables" / f"{name}.csv"
    if "tables" not in archive.artifacts or not path.is_file():
        return []
    return [row for row in read_rows(path) if row["system"] == system]


def _spread(row: dict[str, str]) -> str:
    return f"{float(row['mean']):.1f}" + (f" ± {float(row['std']):.1f}" if row["std"] else "")


def _decoding(decoding: dict[str, float]) -> str:
    if not decoding["temperature"]:
        return "greedy"
    return f"temperature {decoding['temperature']:g}, top-p {decoding['top_p']:g}"


class _Card:
    """What one model's card is filled from.

    Attributes:
        model: the selected checkpoint.
        training: its training run; None for a model from outside.
        behind: everything that it was made from, nearest first.
    """

    def __init__(self, archive: Archive, model: Artifact):
        self.archive, self.model, self.name = archive, model, model.path.name
        self.behind = archive.upstream(model)
        by_name = {artifact.name: artifact for artifact in self.behind}
        self.training = by_name.get(f"training/{self.name}")
        self.teachers = [by_name[name] for name in ("models/teacher", "models/teacher_dpo") if name in by_name]
        page = archive.artifacts.get("tables.md")
        self.embedded = bool(page and page.settings["embedded"])
        self.study = as_text(page.settings["title"]) if page else "a distillation study"
        self.scores, self.wins = (_of_tables(archive, table, self.name) for table in ("scores", "win_rates"))
        self.answers = archive.artifacts.get(f"generations/{self.name}")

    def metadata(self) -> str:
        """Returns the YAML block; what is not known is left out."""
        hub = audit_library("huggingface_hub")
        parts = list(_parts(self.behind))
        sources = [spec for artifact, _, spec in parts if artifact.rule == "gather_source"]
        bases = {artifact.settings["role"]: spec for artifact, _, spec in parts if artifact.rule == "make_base"}
        role = next((role for role in bases if role != "teacher"), "teacher")
        results = [
            hub.EvalResult(
                task_type="text-generation",
                dataset_type=row["dataset"],
                dataset_name=row["dataset"],
                metric_type=load_metric(row["metric"]).hub,
                metric_name=f"{load_metric(row['metric']).title}, {row['decoding']}, mean over sampling seeds "
                f"(n = {row['seeds']})",
                metric_value=float(row["mean"]),
                metric_args={"std": float(row["std"])} if row["std"] else None,
            )
            for row in self.scores
        ]
        method = self.training.settings["run"]["method"] if self.training else None
        return metadata(self.name, method, sources, role, bases, results)

    def making(self) -> str:
        """Returns how the model was made: method, teacher, recipe, environment."""
        model = self.model
        facts = [
            ("study", self.study),
            ("record", f"`results/{model.record}`"),
            ("sealed as", f"`sha256:{model.digest}`"),
        ]
        if self.training:
            settings, run = self.training.settings, self.training.settings["run"]
            starts = [entry for entry in self.archive.inputs(self.training) if entry.name == "start"]
            facts += [
                *training_facts(run, settings["seed"]),
                *((f"starts at `{entry.uri}`", f"`sha256:{entry.sha256}`") for entry in starts),
                ("device and precision", f"{settings['deepspeed']['device']}, {settings['deepspeed']['precision']}"),
                ("updates", self.training.notes.get("updates", "")),
            ]
        facts += [(f"teacher `{teacher.name}`", f"`sha256:{teacher.digest}`") for teacher in self.teachers]
        for shard in [artifact for artifact in self.behind if artifact.rule == "sample_teacher"][:1]:
            asked = shard.settings
            facts.append(
                (
                    "teacher's samples",
                    f"{asked['per_prompt']} a prompt, {_decoding(asked)}, at most {asked['max_new_tokens']} tokens, "
                    f"seed {asked['seed']}",
                )
            )
        made = self.training or model
        facts += [
            ("code", f"git commit `{made.commit}`, closure `{made.code}`" if made.commit else f"closure `{made.code}`"),
            (
                "environment",
                f"lock `{made.lock}`: " + ", ".join(f"{name} {version}" for name, version in made.versions.items()),
            ),
            ("finished", made.finished),
        ]
        return text_table(("", ""), facts)

    def data(self) -> str:
        """Returns what the model and its teacher have seen, with licences and digests."""
        rows = [
            (what, name_of(spec), artifact.notes.get("rows", ""), licence_of(spec), f"`{artifact.digest[:16]}`")
            for artifact, what, spec in _parts(self.behind)
        ]
        table = text_table(("part", "source", "rows", "licence", "sha256 (first 16)"), rows)
        return f"{table}\n\n{UNSTATED}"

    def results(self) -> str:
        """Returns the model's numbers as the study's tables have them."""
        if not self.scores:
            return "The study has no tables yet."
        decodings = self.answers.settings["decodings"] if self.answers else {}
        rows = [
            (
                row["dataset"],
                load_metric(row["metric"]).title,
                _decoding(decodings[row["decoding"]]) if row["decoding"] in decodings else row["decoding"],
                _spread(row),
                row["seeds"],
                row["prompts"],
            )
            for row in self.scores
        ]
        text = (
            "Scores (0 to 100): mean ± sample standard deviation over sampling seeds of this one trained model.\n\n"
            + text_table(("set", "metric", "decoding", "score", "sampling seeds", "prompts"), rows)
        )
        if self.wins:
            wins = [
                (row["opponent"], as_text(row["judge"]), row["dataset"], row["decoding"],
                 f"{float(row['win_rate']):.3f}", f"{float(row['lo']):.3f} to {float(row['hi']):.3f}", row["prompts"])
                for row in self.wins
            ]  # fmt: skip
            text += "\n\nWin rates; ties count half; 95% bootstrap interval over prompts.\n\n" + text_table(
                ("against", "judge", "set", "decoding", "win rate", "interval", "prompts"), wins
            )
        return text

    def use(self) -> str:
        """Returns how the model is asked."""
        asked = (self.answers or self.training or self.model).settings
        wrapper = asked.get("wrapper", "")
        length = f" The study generated at most {max(asked['max_new_tokens'].values())} tokens." if self.answers else ""
        return (
            f"{prompt_of(wrapper)}`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load the "
            f"folder `results/{self.model.name}` of this crate.{length} A response ends with EOS."
        )

    def limits(self) -> str:
        """Returns what the model is not."""
        known = [
            "The spread above is over sampling seeds; it says nothing of other training seeds.",
            UNTESTED,
        ]
        return bullets([INVENTED] * self.embedded + known)

    def files(self) -> str:
        """Returns the model's files with their digests."""
        rows = [(f"`{PurePosixPath(name).relative_to(self.model.name)}`", entry["size"], f"`{entry['sha256']}`")
                for name, entry in self.model.files().items()]  # fmt: skip
        return text_table(("file", "bytes", "sha256"), rows)


def write_card(archive: Archive, model: Artifact) -> str:
    """Returns the card of a selected model: a README.md with a YAML block.

    Args:
        archive: the results.
        model: an artifact below `models/`.
    """
    card = _Card(archive, model)
    sections = {
        "How it was made": card.making(),
        "Data, bases and licences": card.data(),
        "Choice of the checkpoint": choice(model.path),
        "Results": card.results(),
        "Use": card.use(),
        "Limits": card.limits(),
        "Files": card.files(),
    }
    return render(card.name, card.metadata(), f"A student of *{card.study}*.", sections)
