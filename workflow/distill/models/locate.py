"""Where the files of a given base model are: in a folder, or in the cache of the hub."""

from pathlib import Path

from distill.config.base import expand_path
from distill.config.given_models import FolderModel, HubModel
from distill.errors import ModelError
from distill.models.folders import TOKENIZER_FILES, check_kind


def locate(spec: HubModel | FolderModel) -> Path:
    """Returns the local folder of a model: the configured one, or a download of the pinned revision without any code.

    Raises:
        ModelError: no such folder or file, no whole model of transformers' own (see `check_kind`), or the hub cannot be
            reached and its cache lacks the revision.
    """
    if isinstance(spec, FolderModel):
        folder = expand_path(spec.path, "models")
        wanted = folder / (spec.gguf_file or "config.json")
        if folder.is_dir() and not spec.gguf_file:
            check_kind(folder)
        if not wanted.is_file():
            raise ModelError(
                f"{wanted}: expected a model's file, found none; check path in models.teacher and models.student"
            )
        return folder
    from huggingface_hub import HfApi, snapshot_download  # a second to import, for nothing where folders are local
    from huggingface_hub.errors import HfHubHTTPError

    silence = ""  # once set, only the cache is asked: snapshot_download would retry for half a minute first
    try:
        try:
            HfApi().model_info(spec.repository, revision=spec.revision, timeout=10)
        except HfHubHTTPError:
            raise
        except Exception as error:  # no answer, whatever HTTP client the hub's library uses
            silence = f"no answer ({error}) and "
        patterns = [
            "config.json",
            "adapter_config.json",
            "generation_config.json",
            "*.safetensors",
            "*.safetensors.index.json",
            *TOKENIZER_FILES,
        ]
        offline = bool(silence)
        found = snapshot_download(
            spec.repository, revision=spec.revision, allow_patterns=patterns, local_files_only=offline
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"models: expected {spec.repository} at revision {spec.revision} on the Hugging Face Hub or in its cache, "
            f"found {silence}{type(error).__name__}: {str(error).split(chr(10))[0]}; go online, or use a local copy, "
            "e.g. models.teacher: {kind: folder, path: /path/to/folder}"
        ) from error
    check_kind(Path(found))
    return Path(found)
