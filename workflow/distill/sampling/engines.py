"""Opens the engine that the config names; torch and vLLM are imported when it is opened."""

import gc
from pathlib import Path

from distill.sampling.protocol import Engine, EngineSettings


def open_engine(model_folder: Path | str, settings: EngineSettings) -> Engine:
    """Loads a checkpoint folder into the engine that `settings` name; use it as a context manager.

    Raises:
        ConfigError: the device is not there, or not the one that the engine was built for.
        ModelError: the folder is damaged, its EOS ids disagree, or the engine cannot load it.
    """
    if settings.engine == "vllm":
        # The import leaves objects that live for ever; not walking through them again and again saves a third of the
        # start.
        gc.disable()
        try:
            from distill.sampling.vllm_engine import VllmEngine
        finally:
            gc.freeze()
            gc.enable()
        return VllmEngine(Path(model_folder), settings)
    from distill.sampling.transformers_engine import TransformersEngine

    return TransformersEngine.open(Path(model_folder), settings)
