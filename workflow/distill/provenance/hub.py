"""What a record tells of a model or data set from the Hugging Face Hub."""

from pathlib import Path
from typing import Any, Literal

from distill.files import digest_file, list_files


def hub_note(kind: Literal["model", "dataset"], source: Any) -> dict[str, Any]:
    """Returns a note of a source's repository, revision and files, after it was read; nothing for one not of the hub.

    `source` is a section whose own `kind` tells where it is from. The files are those in the hub's cache; of a data set
    that was streamed there are none, and the revision alone, a commit, stands for them.
    """
    if getattr(source, "kind", None) != "hub":
        return {}
    from huggingface_hub import snapshot_download  # a second to import, for nothing where all is local

    found = {"kind": kind, "repository": source.repository, "revision": source.revision}
    try:
        folder = snapshot_download(source.repository, repo_type=kind, revision=source.revision, local_files_only=True)
    except (OSError, ValueError):  # nothing in the cache
        return {"hub": found}
    files = {str(path.relative_to(folder)): digest_file(path) for path in list_files(Path(folder))}
    return {"hub": found | {"files": files}}
