"""Writes config.yaml and its schema from the config models: python -m distill.config (with workflow/ on PYTHONPATH)."""

from pathlib import Path

from distill.config.document import CONFIG, SCHEMA, render_config, render_schema
from distill.files import write_text

for path, text in ((CONFIG, render_config()), (SCHEMA, render_schema())):
    write_text(Path(path), text)
    print(f"wrote {path}")
