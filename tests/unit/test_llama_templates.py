"""Fetching the templates of llama.cpp's sources: checked, in one step, once. The sources are a small stand-in."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import llama_templates
from tools.build_llama import pinned_version
from tools.llama_templates import TemplatesError, ensure

ROOT = "llama_cpp_python-9.9"
FILES = {
    f"{ROOT}/vendor/llama.cpp/models/templates/a.jinja": b"A",
    f"{ROOT}/vendor/llama.cpp/models/templates/README.md": b"no template",
    f"{ROOT}/other/b.jinja": b"B",
    f"{ROOT}/vendor/llama.cpp/models/ggml-vocab-phi-3.gguf": b"V",
    f"{ROOT}/vendor/llama.cpp/models/ggml-vocab-starcoder.gguf": b"not needed",
}


class Sources:
    """Stands in for the download and counts."""

    def __init__(self, files: Mapping[str, bytes] = FILES) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        self.content = out.getvalue()
        self.fetched = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def __call__(self, version: str, folder: Path, env: Mapping[str, str]) -> Path:
        self.fetched += 1
        path = folder / f"llama_cpp_python-{version}.tar.gz"
        path.write_bytes(self.content)
        return path


def test_they_are_fetched_once(tmp_path: Path) -> None:
    env, sources = {"XDG_CACHE_HOME": str(tmp_path)}, Sources()
    folder = ensure(env, "9.9", sources.sha256, sources)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.jinja": b"A",
        "ggml-vocab-phi-3.gguf": b"V",
    }
    assert ensure(env, "9.9", sources.sha256, sources) == folder
    assert sources.fetched == 1
    assert folder.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("sources", "sha256", "reason"),
    [(Sources(), "0" * 64, "SHA-256"), (Sources({f"{ROOT}/README": b""}), None, "no chat templates")],
)
def test_other_sources_leave_nothing(tmp_path: Path, sources: Sources, sha256: str | None, reason: str) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(TemplatesError, match=reason):
        ensure(env, "9.9", sha256 or sources.sha256, sources)
    assert [path.name for path in (tmp_path / "janflask" / "llama-templates").iterdir() if path.is_dir()] == []


def test_a_damaged_archive(tmp_path: Path) -> None:
    sources = Sources()
    sources.content = sources.content[: len(sources.content) // 2]
    with pytest.raises(TemplatesError, match="cannot be unpacked"):
        ensure({"XDG_CACHE_HOME": str(tmp_path)}, "9.9", sources.sha256, sources)


def test_the_pinned_version_has_a_hash() -> None:
    assert pinned_version() in llama_templates.SHA256


def test_a_version_without_a_hash(tmp_path: Path) -> None:
    with pytest.raises(TemplatesError, match=r"9\.8: add the one on PyPI"):
        ensure({"XDG_CACHE_HOME": str(tmp_path)}, "9.8", None, Sources())
