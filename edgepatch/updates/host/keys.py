"""Private keys in files: ed25519, PEM, for their owner's eyes only.

A key is called ROLE-ID.pem, ID being the first 16 digits of the key's id in the metadata, so that old and new keys of a
role lie side by side and nobody has to remember which is which. With the environment variable
EDGEPATCH_KEY_PASSPHRASE set, keys are written and read encrypted.

Ed25519 alone, because devices verify it in pure Python: other keys would need a compiled package there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require
from edgepatch.runtime.store import disk

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PASSPHRASE = "EDGEPATCH_KEY_PASSPHRASE"  # noqa: S105 - the name of the variable, not its value
_LIMIT = 16 * 1024


def make(folder: Path, role: str) -> CryptoSigner:
    """A new key in a file of its own, mode 600, in a folder that is made with mode 700.

    Raises:
        EdgepatchError: the folder cannot be written to.
        MissingPackageError: `cryptography` is not installed.
    """
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner

    private = Ed25519PrivateKey.generate()
    signer = CryptoSigner(private)
    secret = os.environ.get(PASSPHRASE, "").encode()
    data = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption(),
    )
    path = folder / _name(role, signer.public_key.keyid)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        disk.sync(folder)
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror}", file=path) from error
    return signer


def write_public(signer: CryptoSigner, path: str | os.PathLike[str]) -> None:
    """The half of a key that may be shown to anybody, as PEM: what a team hands to the publisher."""
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.public_key.keyval["public"]))
    files.write(path, public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def read_public(path: str | os.PathLike[str]) -> SSlibKey:
    """The public key in a PEM file.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is no PEM file of an ed25519 public key.
    """
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

    data = files.read(path, limit=_LIMIT)
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError as error:
        if b"PRIVATE KEY" in data:
            raise BadFileError(
                "is a private key", file=path, expected="the public half", mend="Give the .pub file; keep this one."
            ) from error
        raise BadFileError("is no public key", file=path, expected="an ed25519 public key, PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadFileError("is a key of another kind", file=path, got=type(key).__name__, expected="ed25519")
    return SSlibKey.from_crypto(key)


def find(folder: Path, role: str, known: Iterable[SSlibKey], threshold: int = 1) -> list[CryptoSigner]:
    """All keys in a folder that may sign for a role.

    Args:
        known: the public keys of the role, by the metadata.
        threshold: how many of them have to sign.

    Raises:
        UsageError: there are fewer than that.
        BadFileError: a key file is damaged, locked, or open to other users of this machine.
    """
    known = list(known)
    paths = {key.keyid: place(folder, role, key) for key in known}
    found = [_read(paths[key.keyid], key) for key in known if paths[key.keyid].exists()]
    if len(found) < threshold:
        raise UsageError(
            f"the key of {role} is not here" if threshold == 1 else f"too few keys of {role} are here",
            file=folder,
            field="--keys",
            got=f"{len(found)} of {len(known)}" if folder.is_dir() else "no such folder",
            expected=" or ".join(path.name for path in paths.values())[:400],
        )
    return found


def has(folder: Path, role: str, known: Iterable[SSlibKey], threshold: int = 1) -> bool:
    """Whether enough keys are there to sign for a role."""
    return sum(place(folder, role, key).exists() for key in known) >= threshold


def place(folder: Path, role: str, key: SSlibKey) -> Path:
    """Where the private half of a role's key lies, if it is in this folder."""
    return folder / _name(role, key.keyid)


def refuse_inside(folder: Path, repository: Path) -> None:
    """Refuse to keep private keys where a web server would hand them out.

    Raises:
        UsageError: the folder of keys lies in the repository.
    """
    with contextlib.suppress(ValueError):
        folder.resolve().relative_to(repository.resolve())
        raise UsageError(
            "private keys must not lie in the folder that is hosted",
            field="--keys",
            got=folder,
            expected=f"a folder outside {repository}",
        )


def _read(path: Path, public: SSlibKey) -> CryptoSigner:
    serialization = _serialization()
    from cryptography.exceptions import UnsupportedAlgorithm
    from securesystemslib.exceptions import KeyMismatchError
    from securesystemslib.signer import CryptoSigner

    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise BadFileError(
            "is a private key that others on this machine may read",
            file=path,
            got=f"mode {path.stat().st_mode & 0o777:o}",
            expected="mode 600",
            mend=f"chmod 600 {path}",
        )
    data = files.read(path, limit=_LIMIT)
    secret = os.environ.get(PASSPHRASE, "").encode()
    locked = b"ENCRYPTED" in data
    if locked and not secret:
        raise UsageError("is locked by a passphrase", file=path, mend=f"export {PASSPHRASE}=...")
    try:
        private = serialization.load_pem_private_key(data, secret if locked else None)
        return CryptoSigner(private, public)
    except KeyMismatchError as error:
        raise BadFileError("is not the key that its name says", file=path) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = "is not opened by this passphrase" if locked else "is no private key"
        raise BadFileError(problem, file=path, expected="an ed25519 private key, PEM") from error


def _name(role: str, keyid: str) -> str:
    return f"{role}-{keyid[:16]}.pem"


def _serialization() -> Any:
    require("tuf", extra="publish", why="publishing")
    return require("cryptography.hazmat.primitives.serialization", extra="publish", why="signing")
