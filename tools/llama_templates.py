"""Fetches chat templates and vocabularies of real models that llama-cpp-python's sources hold, for tests of both.

The wheel that is compiled from these sources does not have them, and they are not ours to copy. They are kept in
``$XDG_CACHE_HOME/janflask/llama-templates/``. pip fetches the sources (75 MB), whose SHA-256 is checked.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.build_llama import BUILD_CONSTRAINTS, PACKAGE, cache_folder, locked, pinned_version
from tools.fetching import pip_download
from tools.progress import exit_status

SHA256 = {"0.3.36": "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"}  # of a version's sources
INSIDE = "/vendor/llama.cpp/models/templates/"
MAX_TEMPLATE = 1 << 20  # bytes
# GGUFs without weights, of every kind that chats: SentencePiece and BPE, with and without blanks put in front.
VOCABULARIES = ("command-r", "deepseek-llm", "gemma-4", "llama-bpe", "llama-spm", "phi-3", "qwen2")
MAX_VOCABULARY = 32 << 20
KEPT = 2  # raised with what is taken out of the sources


class TemplatesError(Exception):
    """The templates cannot be had; nothing was left behind."""


def download(version: str, folder: Path, env: Mapping[str, str]) -> Path:
    """Fetches the sources into ``folder`` with pip. Raises CommandError when it could not."""
    wanted = ["--no-binary", PACKAGE, "--build-constraint", str(BUILD_CONSTRAINTS), f"{PACKAGE}=={version}"]
    return pip_download(wanted, folder, label="chat templates: fetching", env=env)


def ensure(
    env: Mapping[str, str],
    version: str | None = None,
    sha256: str | None = None,
    fetch: Callable[[str, Path, Mapping[str, str]], Path] = download,
) -> Path:
    """The folder with the pinned version's templates, ``*.jinja``, and vocabularies, ``ggml-vocab-*.gguf``.

    It appears whole or not at all.

    Raises:
        CommandError, TemplatesError: they cannot be had.
    """
    version = version or pinned_version()
    sha256 = sha256 or SHA256.get(version)
    if sha256 is None:
        raise TemplatesError(f"tools/llama_templates.py has no SHA-256 for {PACKAGE} {version}: add the one on PyPI")
    folder = cache_folder(env).with_name("llama-templates") / f"{version}-{sha256[:16]}-{KEPT}"
    with locked(folder.with_name(f"{folder.name}.lock"), "chat templates: another process fetches them"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-", ignore_cleanup_errors=True) as scratch:
                archive = fetch(version, Path(scratch), env)
                extract(archive, sha256, Path(scratch) / "templates")
                (Path(scratch) / "templates").rename(folder)
    return folder


def extract(archive: Path, sha256: str, folder: Path) -> None:
    """Writes templates and vocabularies out of the sources into ``folder``. Raises TemplatesError for other sources."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise TemplatesError(f"{archive.name} has SHA-256 {found} instead of {sha256}: damaged or changed")
    folder.mkdir()
    try:
        with tarfile.open(archive) as sources:
            for member in sources:
                content = sources.extractfile(member) if _is_wanted(member) else None
                if content is not None:
                    (folder / Path(member.name).name).write_bytes(content.read())
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise TemplatesError(f"{archive.name} cannot be unpacked: {error}") from error
    if not any(folder.iterdir()):
        raise TemplatesError(f"{archive.name} holds no chat templates at *{INSIDE}")


def _is_wanted(member: tarfile.TarInfo) -> bool:
    if member.name.endswith(tuple(f"/vendor/llama.cpp/models/ggml-vocab-{name}.gguf" for name in VOCABULARIES)):
        return member.size <= MAX_VOCABULARY
    return INSIDE in member.name and member.name.endswith(".jinja") and member.size <= MAX_TEMPLATE


def main() -> int:
    """Makes sure that the templates are there."""

    def work() -> None:
        folder = ensure(os.environ)
        print(f"chat templates: {len(list(folder.glob('*.jinja')))} of real models are in {folder}", flush=True)

    return exit_status("chat templates", work, TemplatesError, ValueError)


if __name__ == "__main__":
    sys.exit(main())
