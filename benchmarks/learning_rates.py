"""Dev scores of every checkpoint of a study that tries learning rates, as CSV: the start is update 0.

    .venv/bin/python benchmarks/learning_rates.py results/tuning > docs/studies/ablations/learning_rates.csv

A run is named FORM_RATE, as in presets/tuning.yaml. The last column is the digest of the selection's record, which
tells code, settings and inputs.
"""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

COLUMNS = ("run", "learning_rate", "update", "dev_rouge_l", "dev_loss", "selected", "record_sha256")


def read_scores(results: Path) -> Iterator[dict]:
    """Yields a row for each candidate of each run that was validated, by run and update."""
    for path in sorted(results.glob("models/*/selection.json")):
        selection = json.loads(path.read_text())
        run = selection["run"]
        trained = json.loads((results / "training" / f"{run}.prov.json").read_text())
        section = trained["predicate"]["buildDefinition"]["externalParameters"]["settings"]["run"]
        record = hashlib.sha256((results / "models" / f"{run}.prov.json").read_bytes()).hexdigest()
        for update, scores in sorted(selection["scores"].items(), key=lambda item: int(item[0])):
            if "dev_rouge_l" in scores:
                yield {
                    "run": run,
                    "learning_rate": section["training"]["learning_rate"],
                    "update": int(update),
                    "dev_rouge_l": scores["dev_rouge_l"],
                    "dev_loss": scores["dev_loss"],
                    "selected": "yes" if int(update) == selection["update"] else "no",
                    "record_sha256": record,
                }


if __name__ == "__main__":
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(read_scores(Path(sys.argv[1])))
