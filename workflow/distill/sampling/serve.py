"""A sampling engine in a process of its own, for a training that hands over new weights before each round.

    python -m distill.sampling.serve SETTINGS VOCABULARY

SETTINGS are those of the engine as JSON, VOCABULARY is how many ids the tokenizer can name. A line of JSON on standard
input asks: a folder of weights, requests, decoding. A line on standard output answers: completions, or an error. There
is no port to listen on, and the process ends with the pipe, however its parent ends.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from distill.errors import DistillError
from distill.sampling.protocol import EngineSettings, Request
from distill.sampling.resumable import LazyEngine
from distill.stopping import SIGNALS


def serve(settings: EngineSettings, vocabulary: int) -> None:
    """Answers until the input ends."""
    for number in SIGNALS:  # a terminal or Slurm asks all processes; the training ends the update and saves first
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not lie among the answers
    with LazyEngine(settings, vocabulary) as engine:
        for line in sys.stdin:
            asked = json.loads(line)
            requests = [Request(**own) for own in asked["requests"]]
            decoding = asked["temperature"], asked["top_p"], asked["max_new_tokens"]
            answer: dict[str, Any]
            try:
                done = engine.use(Path(asked["weights"])).generate(requests, *decoding)
                answer = {"completions": [vars(completion) for completion in done]}
            except DistillError as error:
                answer = {"error": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    serve(EngineSettings(**json.loads(sys.argv[1])), int(sys.argv[2]))
