"""A selected model to a model hub: `python -m distill push MODEL REPO`; what it would send, or with --yes sends.

The hub is that of HF_ENDPOINT, the token that of HF_TOKEN or of `hf auth login`, as huggingface_hub finds them.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from distill.checkpoints import SELECTION
from distill.command import Command, say
from distill.errors import DistillError, ModelError
from distill.files import CARD, MANIFEST
from distill.publish.sealed import read_sealed
from distill.remote.replies import without_password


def files_to_send(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of a model folder's files that belong on a hub, and of those that stay.

    Weights in safetensors, configs, tokenizer, chat template, selection, the manifest with the digests of all of them,
    and the card. What the manifest does not list stays.

    Raises:
        DataError, ModelError: the folder is not sealed, has no card, or is not what was sealed.
    """
    from distill.models.folders import INDEX, TOKENIZER_FILES, check_structure, weight_files  # not for audits

    check_structure(folder)
    manifest = read_sealed(folder)
    if not (folder / CARD).is_file():
        raise ModelError(
            f"{folder / CARD}: expected a model card, found none; give models/SYSTEM of a study, whose card "
            f"`snakemake --cores all --force {folder / MANIFEST}` writes"
        )
    known = {*weight_files(folder), INDEX, "config.json", "generation_config.json", *TOKENIZER_FILES, SELECTION}
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    sent = [name for name in found if name in known & manifest.keys() or name in (CARD, MANIFEST)]
    return sent, [name for name in found if name not in sent]


def push(folder: Path, repository: str, public: bool, yes: bool) -> None:
    """Uploads a model folder in one commit, or says what would be uploaded and where.

    Args:
        folder: `models/SYSTEM` of a study.
        repository: OWNER/NAME; made where there is none, and then private unless `public`.
        public: whether everybody may see a repository that is made.
        yes: whether to send anything; no connection is opened otherwise.

    Raises:
        DistillError: the folder is no whole model of a study, the name is none, or the hub refuses.
    """
    import huggingface_hub as hub  # a second, which only this command needs
    from huggingface_hub import utils

    try:
        utils.validate_repo_id(repository)
        owner, _, _ = repository.partition("/")
    except ValueError as error:
        raise DistillError(f"{repository}: expected OWNER/NAME, found another name: {error}; give one") from error
    if owner == repository:
        raise DistillError(f"{repository}: expected OWNER/NAME, found no owner; give your name on the hub before it")
    sent, left = files_to_send(folder)
    try:
        api = hub.HfApi()
    except ValueError as error:  # the library reads its settings when it is loaded
        raise DistillError(f"HF_ENDPOINT: expected an address, found {error}; correct or unset it") from error
    place = without_password(f"{api.endpoint}/{repository}")
    say(f"{folder} to {place} ({'public' if public else 'private'}, if it is not there yet):")
    say(*(f"{(folder / name).stat().st_size:>14,}  {name}" for name in sent))
    if left:
        say(f"Left out: {', '.join(left)}")
    if not yes:
        say("Nothing was sent: --yes sends it.")
        return
    if not (token := hub.get_token()):
        raise DistillError(f"{place}: expected a token in HF_TOKEN or of `hf auth login`, found none; set one")
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        added = [hub.CommitOperationAdd(name, folder / name) for name in sent]
        done = api.create_commit(repository, added, commit_message=f"{folder.name} of a distillation study")
    except Exception as error:  # what a server's answer raises in the library has no common class
        said = without_password(f"{error} {error.__cause__ or ''}".replace(token, "[token]"))
        raise DistillError(
            f"{place}: expected the hub to take the files, found {type(error).__name__}: {said}; fix that and give "
            "the same command again: large files that have arrived are not sent twice"
        ) from error
    say(f"Sent as commit {done.oid}")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder of a study: results/models/SYSTEM")
    parser.add_argument("repository", metavar="REPO", help="where to: OWNER/NAME")
    parser.add_argument("--public", action="store_true", help="a repository that is made is for everybody to see")
    parser.add_argument("--yes", action="store_true", help="send it; without this only what would be sent is said")


def _run(options: Namespace) -> int:
    push(options.model, options.repository, options.public, options.yes)
    return 0


COMMAND = Command("push", "upload a trained model to the Hugging Face Hub: says what, and with --yes does it",
                  _add_arguments, _run)  # fmt: skip
