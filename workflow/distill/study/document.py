"""The config file and its JSON schema, generated from the models: every key with its meaning, range and source."""

import json
import textwrap
from argparse import Namespace
from pathlib import Path

import yaml

from distill.command import Command
from distill.config.base import Section
from distill.files import write_text
from distill.methods.registry import all_sections
from distill.study.load import load_study
from distill.study.study import study_type

CONFIG, SCHEMA = "config.yaml", "workflow/config.schema.json"
_ROOT = Path(__file__).parents[3]
_WIDTH = 118
_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA}
# The embedded study: runs anywhere, without hub, GPU or key.
# Written by `make config` from the models in workflow/distill (config, study, methods), which overwrites it: to keep
# edits under that command, copy this file and pass the copy by --configfile.
# A file given with --configfile stands alone: keys that it leaves out take the values below.
"""


def _scalar(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _lines(section: Section, indent: int) -> list[str]:
    lines, pad = [], " " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        comment = textwrap.wrap(field.description or "", _WIDTH - indent - 2)
        lines += [f"{pad}# {line}" for line in comment]
        if isinstance(value, Section):
            lines += [f"{pad}{name}:", *_lines(value, indent + 2)]
        elif isinstance(value, dict) and value and all(isinstance(entry, Section) for entry in value.values()):
            lines.append(f"{pad}{name}:")
            for key, entry in value.items():
                lines += [f"{pad}  {key}:", *_lines(entry, indent + 4)]
        else:
            lines.append(f"{pad}{name}: {_scalar(value)}")
        if indent == 0:
            lines.append("")
    return lines


def render_config() -> str:
    """Returns config.yaml: the embedded study, every key commented."""
    return "\n".join([_HEAD, *_lines(load_study({}), 0)]).rstrip() + "\n"


def render_schema() -> str:
    """Returns the JSON schema of a config file."""
    return json.dumps(study_type(all_sections()).model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def _run(options: Namespace) -> int:
    for path, text in ((CONFIG, render_config()), (SCHEMA, render_schema())):
        write_text(_ROOT / path, text)
        print(f"wrote {path}")
    return 0


COMMAND = Command("config", "write config.yaml and its schema again from the config models", lambda parser: None, _run)
