"""Who may import whom, as ``tools/import_rules.py`` says, read from the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.import_rules import ALLOWED, FORBIDDEN, STANDARD_LIBRARY_ONLY

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("janflask/**/*.py"))
EXTENSION = sorted(path for path in ROOT.glob("ext/janflask_ext/*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "janflask")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_when_loaded(path: Path) -> set[str]:
    """The modules of janflask named at the top of a module; the package itself where a name is none of its modules."""
    modules, found = {module_of(each) for each in SOURCES}, set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in named}
    return found & modules


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
    assert libraries & FORBIDDEN[part] == set()
    if part in STANDARD_LIBRARY_ONLY:
        assert libraries - set(sys.stdlib_module_names) == set()


def test_the_root_holds_no_more_than_everybody_needs() -> None:
    assert {path.stem for path in ROOT.glob("janflask/*.py")} == {"__init__", "container", "decoding", "errors"}


def test_every_room_stands_above_those_it_imports() -> None:
    """The table is in order, so that no way leads back: but for the root's, which imports nothing when it is loaded."""
    rooms = list(ALLOWED)
    above = {room: sorted(ALLOWED[room] - set(rooms[:at])) for at, room in enumerate(rooms)}
    assert {room: found for room, found in above.items() if found} == {"api": ["__init__"], "cli": ["__init__"]}
    root = ast.parse(ROOT.joinpath("janflask/__init__.py").read_text())
    assert [node.module for node in root.body if isinstance(node, ast.ImportFrom)] == ["__future__", "typing"]
    assert [node for node in root.body if isinstance(node, ast.Import)] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports that run when a module is loaded make no circle: each module can be imported first."""
    edges = {module_of(path): imported_when_loaded(path) for path in SOURCES}
    while leaves := [module for module, targets in edges.items() if not targets & edges.keys()]:
        for module in leaves:
            del edges[module]
    assert edges == {}


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
        (["janflask.supervisor"], {"llama_cpp", "janflask_ext", "numpy", "flask", "marshmallow"}),
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
