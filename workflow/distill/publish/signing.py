"""Signs a folder or file with a key of one's own, and verifies it: OpenSSF Model Signing, offline, no service asked.

The signature lists the sha256 of each file and stands for all of them; `model_signing verify key` reads it as well.
"""

import base64
import json
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from distill.audit.manifest import hash_files
from distill.command import Command, add_results, say
from distill.errors import DistillError
from distill.files import ASIDE, fixable_os_errors
from distill.publish.libraries import audit_library

PASSWORD = "DISTILL_KEY_PASSWORD"
"""The environment variable with the password of an encrypted private key."""


def _outside(path: Path, *folders: Path) -> None:
    """Refuses a key or signature in a folder that it would change or leak into."""
    for folder in folders:
        if path.absolute().is_relative_to(folder.absolute()):
            raise DistillError(
                f"{path}: expected a place outside {folder}, found it inside; keep keys and signatures apart"
            )


def _hashing() -> object:
    # By default the library leaves out what git keeps in a folder; here no byte is left out.
    return audit_library("model_signing.hashing").Config().set_ignored_paths(paths=ASIDE, ignore_git_paths=False)


def sign(target: Path, private_key: Path, signature: Path, results: Path) -> int:
    """Writes the signature of a file, or of a folder with all its files but those `ASIDE`; returns how many there are.

    Args:
        target: what to sign: the results, an exported crate, or one model's folder.
        private_key: EC key (P-256, P-384 or P-521) as PEM.
        signature: the file to write.
        results: the results folder, which neither key nor signature may enter.

    Raises:
        DistillError: no such target or key, or a key or signature inside what is signed or inside the results.
    """
    if not target.exists():
        raise DistillError(f"{target}: expected a file or folder to sign, found none; correct the path")
    _outside(private_key, target, results)
    _outside(signature, target, results)
    password = os.environ.get(PASSWORD)
    try:
        config = audit_library("model_signing.signing").Config()
        config.use_elliptic_key_signer(private_key=private_key, password=password and password.encode())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DistillError(
            f"{private_key}: expected a private EC key as PEM (P-256, P-384 or P-521), its password in {PASSWORD} if "
            f"it has one, found {error}; make one with `openssl ecparam -name prime256v1 -genkey -noout`"
        ) from error
    try:
        with fixable_os_errors(signature):
            config.set_hashing_config(_hashing()).sign(target, signature)
    except ValueError as error:  # a symbolic link, which vouches for nothing
        raise DistillError(f"{target}: expected plain files, found something else: {error}") from error
    return len(_signed(signature))


def _signed(signature: Path) -> dict[str, str]:
    """Returns {relative path: sha256} as a signature lists them."""
    envelope = json.loads(signature.read_text(encoding="utf-8"))["dsseEnvelope"]
    payload = json.loads(base64.b64decode(envelope["payload"]))
    return {entry["name"]: entry["digest"] for entry in payload["predicate"]["resources"]}


def verify_signature(target: Path, public_key: Path, signature: Path) -> list[str]:
    """Returns what differs between a file or folder and its signature, one line each; nothing if it holds.

    Raises:
        DistillError: no such target or signature, or no public EC key.
    """
    for path in (target, signature):
        if not path.exists():
            raise DistillError(
                f"{path}: expected a signed file or folder and its signature, found none; correct the path"
            )
    verifying = audit_library("model_signing.verifying")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, AttributeError) as error:
        raise DistillError(
            f"{public_key}: expected a public EC key as PEM, found {error}; make it with `openssl ec -pubout`"
        ) from error
    try:
        verifier.set_hashing_config(_hashing()).verify(target, signature)
        return []
    except Exception as error:  # whatever a forged signature makes the library stumble over
        if not str(error).startswith("Signature mismatch"):
            reason = str(error).strip() or "the signature is another's"
            return [f"{signature}: expected the signature of {target} by {public_key}, found none: {reason}"]
    expected, names = _signed(signature), ["."]
    if target.is_dir():
        files = (path.relative_to(target) for path in target.rglob("*") if path.is_file())
        names = [str(path) for path in files if path.parts[0] not in ASIDE]
    found = {name: entry["sha256"] for name, entry in hash_files(target, names).items()}
    return [
        f"{target / name}: expected {_short(expected.get(name))} as signed, found {_short(found.get(name))}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def _short(digest: str | None) -> str:
    return f"sha256 {digest[:16]}" if digest else "no such file"


def _add_sign_arguments(parser: ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("path", type=Path, metavar="PATH", help="the results, an exported crate, or a model's folder")
    parser.add_argument(
        "--private-key", type=Path, required=True, help="EC key as PEM; kept outside of PATH and results"
    )
    parser.add_argument("--signature", type=Path, required=True, help="the file to write")


def _run_sign(options: Namespace) -> int:
    files = sign(options.path, options.private_key, options.signature, options.results)
    print(f"{options.signature}: signature of {options.path}, {files} files")
    return 0


def _add_verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="what was signed")
    parser.add_argument("--public-key", type=Path, required=True, help="the signer's public key as PEM")
    parser.add_argument("--signature", type=Path, required=True, help="the signature's file")


def _run_verify(options: Namespace) -> int:
    findings = verify_signature(options.path, options.public_key, options.signature)
    say(*findings or [f"{options.path}: as signed in {options.signature}"])
    return 1 if findings else 0


SIGN = Command("sign", "sign results, a crate or a model with a key of your own", _add_sign_arguments, _run_sign)
VERIFY = Command("verify-signature", "check a signature, and every file under it", _add_verify_arguments, _run_verify)
