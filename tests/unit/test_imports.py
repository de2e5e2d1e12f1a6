"""Who may import whom, as docs/architecture.md draws it, read from the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = {"types", "records", "errors", "settings", "hosts"}
VALUES = {"engine_settings", "parameters", "known_fields"}  # what may be given to engines

# Each part of janflask and the parts it may import; every part may import itself.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "records": set(),
    "leftovers": {"records", "errors"},
    "settings": {"errors", "hosts"},
    "hosts": set(),
    "engine_settings": BASE,
    "known_fields": set(),
    "parameters": {"types", "known_fields"},
    "folder_ids": BASE,
    "model_files": BASE | {"gguf_header"},
    "catalog": BASE | {"engine_settings", "folder_ids", "model_files"},
    "default_layout": set(),
    "gguf_header": BASE | {"default_layout"},
    "model_description": BASE | {"gguf_header", "model_files"},
    "model_folder": BASE | {"catalog", "gguf_header", "model_description"},
    "memory_estimate": BASE | {"gguf_header"},
    "machine_memory": BASE,
    "shutdown": set(),
    "kv_folder": set(),
    "__init__": BASE | {"api", "services", "catalog"},
    "cli": BASE
    | {
        "__init__",
        "services",
        "storage",
        "catalog",
        "folder_ids",
        "default_layout",
        "engine_settings",
        "gguf_header",
        "memory_estimate",
        "machine_memory",
    }
    | {"schemas", "downloads"},  # for what it does on the disk when no server runs
    "api": BASE | {"__init__", "schemas", "services", "catalog", "known_fields", "folder_ids"},
    "schemas": {"types", "records", "errors", "parameters", "known_fields", "leftovers"},
    "services": BASE
    | VALUES
    | {"storage", "ipc", "catalog", "engine_settings", "gguf_header", "model_folder", "memory_estimate"}
    | {"shutdown", "kv_folder", "leftovers", "folder_ids", "model_files"},
    "storage": BASE | VALUES,
    "ipc": {"types", "records", "errors"},
    "processes": BASE | {"__init__", "ipc", "shutdown"},
    "runner": BASE | {"__init__", "ipc", "parameters", "processes", "services", "storage", "leftovers"},
    "engine": BASE
    | {"__init__", "ipc", "processes", "catalog", "engine_settings", "gguf_header", "memory_estimate"}
    | {"machine_memory", "default_layout", "downloads", "kv_folder"},
    "downloads": BASE | {"catalog", "gguf_header", "model_files", "model_folder"},
}

WEB = {"flask", "flask_smorest", "werkzeug", "marshmallow", "webargs", "apispec", "gunicorn"}
NATIVE = {"llama_cpp", "janflask_ext", "numpy"}

# Libraries that a part must not touch.
FORBIDDEN: dict[str, set[str]] = {
    "__init__": NATIVE,
    "engine_settings": WEB | NATIVE,
    "known_fields": WEB | NATIVE,
    "parameters": WEB | NATIVE,
    "folder_ids": WEB | NATIVE,
    "model_files": WEB | NATIVE,
    "catalog": WEB | NATIVE,
    "default_layout": WEB | NATIVE,
    "gguf_header": WEB | NATIVE,
    "model_description": WEB | NATIVE,
    "model_folder": WEB | NATIVE,
    "memory_estimate": WEB | NATIVE,
    "machine_memory": WEB | NATIVE,
    "shutdown": WEB | NATIVE,
    "kv_folder": WEB | NATIVE,
    "cli": NATIVE,
    "api": NATIVE,
    "schemas": NATIVE,
    "services": WEB | NATIVE,
    "storage": WEB | NATIVE,
    "ipc": WEB | NATIVE,
    "engine": WEB,
    "processes": WEB | NATIVE,
    "runner": WEB | NATIVE,
    "downloads": WEB | NATIVE,
}
STANDARD_LIBRARY_ONLY = {"known_fields", "parameters", "errors", "types", "records", "settings", "leftovers", "hosts"}

SOURCES = sorted(ROOT.glob("janflask/**/*.py"))
EXTENSION = sorted(path for path in ROOT.glob("ext/janflask_ext/*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "janflask")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(source: str, package: str) -> Iterator[str]:
    """Every module that a source names in an import, wherever it stands, with relative ones made absolute.

    ``from janflask import x`` gives both ``janflask`` and ``janflask.x``, since ``x`` may be either a name or a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def parts_and_libraries(path: Path) -> tuple[set[str], set[str]]:
    """The parts of janflask, and the top-level packages other than it, that one source imports."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    parts, libraries = set(), set()
    for module in imported(path.read_text(), package):
        top, _, rest = module.partition(".")
        if top != "janflask":
            libraries.add(top)
        elif rest:
            first = rest.split(".")[0]
            parts.add(first if first in ALLOWED else "__init__")
    return parts, libraries


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"say in ALLOWED what the new part {part!r} may import"
    parts, libraries = parts_and_libraries(path)
    assert parts - ALLOWED[part] - {part} == set()
    assert libraries & FORBIDDEN.get(part, set()) == set()
    if part in STANDARD_LIBRARY_ONLY:
        assert libraries - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", EXTENSION, ids=name_of)
def test_the_extension_knows_nothing_of_janflask(path: Path) -> None:
    found = re.findall(r"^\s*(?:from|import|cimport)\s+(janflask)(?!_ext)\b.*$", path.read_text(), re.MULTILINE)
    assert found == []


def test_the_reader_of_imports_sees_all_kinds() -> None:
    source = "import a.b, c\nfrom d import e\ndef f():\n    from . import g\n    from ..h import i\n"
    assert set(imported(source, "p.q")) == {"a.b", "c", "d", "d.e", "p.q", "p.q.g", "p.h", "p.h.i"}


@pytest.mark.parametrize(
    ("packages", "absent"),
    [
        (["janflask", "janflask.api", "janflask.services"], {"llama_cpp", "janflask_ext", "numpy", "janflask.engine"}),
        (["janflask.supervisor.supervisor"], {"llama_cpp", "janflask_ext", "numpy", "flask", "marshmallow"}),
        (["janflask.engine.loop"], {"llama_cpp", "flask", "marshmallow"}),
        (["janflask.settings"], {"flask", "msgspec", "numpy"}),
    ],
    ids=["API worker", "supervisor", "the loop without a model", "settings"],
)
def test_what_a_process_loads(packages: list[str], absent: set[str]) -> None:
    """The rules hold for what comes along indirectly too: an API worker never maps the native library."""
    script = (
        "import importlib, pkgutil, sys\n"
        "for name in sys.argv[1:]:\n"
        "    package = importlib.import_module(name)\n"
        "    folders = package.__path__ if name.count('.') == 1 and hasattr(package, '__path__') else []\n"
        "    for module in pkgutil.iter_modules(folders, name + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", script, *packages]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    assert absent & set(run.stdout.split()) == set()


def test_every_package_is_packed() -> None:
    """A folder of sources that pyproject.toml does not name would be missing from the wheel."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("janflask/**/*.py")}
    assert set(packages) == folders | {"janflask.conf", "janflask_ext"}
    assert [name for name in sorted(folders) if not Path(ROOT, *name.split("."), "__init__.py").exists()] == []
