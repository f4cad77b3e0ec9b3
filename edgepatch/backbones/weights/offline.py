"""Checkpoints that packages of the package index carry: found without importing the package, known by their hash."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

from edgepatch.errors import BadFileError, MissingPackageError


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file inside an installed package.

    Attributes:
        source: what `--weights` calls it.
        package, file: the distribution, and the file's path in it.
        sha256: of the file.
        licence: of the weights.
        install: the line that brings it.
    """

    source: str
    package: str
    file: str
    sha256: str
    licence: str
    install: str

    def path(self) -> Path | None:
        """Where it lies, or None if the package is not installed."""
        try:
            path = Path(str(importlib.metadata.distribution(self.package).locate_file(self.file)))
        except importlib.metadata.PackageNotFoundError:
            return None
        return path if path.exists() else None

    def require(self, path: Path | None) -> Path:
        """The path given, or how to come by one.

        Raises:
            MissingPackageError: there is none.
        """
        if path is None:
            raise MissingPackageError(
                "the offline ImageNet weights are not installed", field="--weights", got=self.source, mend=self.install
            )
        return path

    def check(self, digest: str, path: Path) -> None:
        """Refuse another file than the one these weights are.

        Raises:
            BadFileError: the SHA-256 is another one.
        """
        if digest != self.sha256:
            raise BadFileError(
                "is not the file it should be",
                file=path,
                field="SHA-256",
                got=digest,
                expected=self.sha256,
                mend=self.install.replace("pip install", "pip install --force-reinstall"),
            )
