"""Opens the engine that the config names; torch and vLLM are imported when it is opened."""

from collections.abc import Callable
from pathlib import Path

from distill.sampling.protocol import Engine, EngineSettings
from distill.startup import starting


def load_engine(name: str) -> Callable[[Path, EngineSettings], Engine]:
    """Imports an engine's libraries and returns what opens it; the CPU time counts as start-up."""
    with starting():
        if name == "vllm":
            from distill.sampling.vllm_engine import VllmEngine

            return VllmEngine
        from distill.sampling.transformers_engine import TransformersEngine

        return TransformersEngine.open


def open_engine(model_folder: Path | str, settings: EngineSettings) -> Engine:
    """Loads a checkpoint folder into the engine that `settings` name; use it as a context manager.

    Its CPU time counts as start-up.

    Raises:
        ConfigError: the device is not there, or not the one that the engine was built for.
        ModelError: the folder is damaged, its EOS ids disagree, or the engine cannot load it.
    """
    start = load_engine(settings.engine)
    with starting():  # again: vLLM collects garbage itself, and what was imported is out of its way by now
        return start(Path(model_folder), settings)
