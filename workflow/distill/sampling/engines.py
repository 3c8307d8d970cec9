"""Opens the engine that the config names; torch and vLLM are imported when it is opened."""

from pathlib import Path

from distill.sampling.protocol import Engine, EngineSettings
from distill.startup import starting


def open_engine(model_folder: Path | str, settings: EngineSettings) -> Engine:
    """Loads a checkpoint folder into the engine that `settings` name; use it as a context manager.

    Its CPU time counts as start-up.

    Raises:
        ConfigError: the device is not there, or not the one that the engine was built for.
        ModelError: the folder is damaged, its EOS ids disagree, or the engine cannot load it.
    """
    if settings.engine == "vllm":
        with starting():
            from distill.sampling.vllm_engine import VllmEngine
        with starting():  # again: vLLM collects garbage itself, and what was imported is out of its way by now
            return VllmEngine(Path(model_folder), settings)
    with starting():
        from distill.sampling.transformers_engine import TransformersEngine

        return TransformersEngine.open(Path(model_folder), settings)
