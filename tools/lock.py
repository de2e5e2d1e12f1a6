"""Writes ``requirements/*.txt``: every package that the project needs, directly or not, with its exact version.

``pyproject.toml`` says what is wanted; pip resolves it. llama-cpp-python is left out, since ``tools.build_llama``
builds it by itself, but what it needs is in. Run with ``make lock``; the result is committed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tools import agent_sdks

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
HEAD = "# Made by `make lock` from {source} ({what}); do not edit.\n"

LLAMA = "llama-cpp-python"
# What llama-cpp-python 0.3.36 asks for; its metadata cannot be read without its 77 MB source archive.
LLAMA_NEEDS = ["diskcache>=5.6.1", "jinja2>=2.11.3", "numpy>=1.20.0", "typing-extensions>=4.5.0"]
# What builds the two native parts; cmake and ninja are only fetched where the machine has none that will do.
BUILD_TOOLS = ["pip", "setuptools>=80", "wheel", "scikit-build-core", "cmake", "ninja"]


def project_table() -> dict[str, Any]:
    """The ``[project]`` table of pyproject.toml, plus ``build-requires`` from ``[build-system]``."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {**document["project"], "build-requires": document["build-system"]["requires"]}


def resolve(wanted: list[str], locked: dict[str, str]) -> dict[str, str]:
    """``{name: version}`` of ``wanted`` and all that they need, with the versions in ``locked`` kept.

    Raises:
        subprocess.CalledProcessError: pip found no set of versions that fits; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in locked.items()))
        report = Path(folder, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command = [*pip, "--report", str(report), "--constraint", str(constraints), *wanted]
        subprocess.run(command, check=True)
        installs = json.loads(report.read_text())["install"]
    return {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in installs}


def canonical(name: str) -> str:
    """A package's name as the packaging standard spells it: lower case, single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, what: str, versions: dict[str, str], source: str = "pyproject.toml") -> None:
    """Writes one lock file, sorted by name."""
    lines = [f"{package}=={version}\n" for package, version in sorted(versions.items())]
    (REQUIREMENTS / f"{name}.txt").write_text(HEAD.format(source=source, what=what) + "".join(lines))


def main() -> int:
    """Resolves the groups one after the other; a later one keeps the versions of the earlier ones."""
    project = project_table()
    agent_sdks.LOCKS.mkdir(parents=True, exist_ok=True)
    runtime = [line for line in project["dependencies"] if not line.startswith(LLAMA)] + LLAMA_NEEDS
    extra = project["optional-dependencies"]
    groups = [
        ("runtime", "dependencies", runtime),
        ("test", "the test group", extra["test"]),
        ("dev", "the dev group", extra["dev"]),
        ("build", "what builds the native parts", BUILD_TOOLS + project["build-requires"]),
    ]
    locked: dict[str, str] = {}
    for name, what, wanted in groups:
        versions = resolve(wanted, locked)
        # build.txt is installed and used by itself; test and dev come on top of the ones before them.
        known = {} if name == "build" else locked
        write(name, what, {package: version for package, version in versions.items() if package not in known})
        locked.update(versions)
        print(f"requirements/{name}.txt: {len(versions)} packages")
    for name, wanted in agent_sdks.PYTHON.items():
        versions = resolve(list(wanted), {})  # an environment of its own: nothing of ours is kept
        write(f"agents/{name}", name, versions, source="tools/agent_sdks.py")
        print(f"requirements/agents/{name}.txt: {len(versions)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
