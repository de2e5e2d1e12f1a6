"""Writes what can be told from the sources into the docs; ``make docs`` runs it, a test holds them together.

Each package's docstring is a first paragraph that somebody wrote and, made here, a line for each of its modules: the
first of the module's own docstring. ``docs/architecture.md`` gets a table of the rooms and one of who may import whom.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tools.import_rules import ALLOWED, BASE

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
WIDTH = 120


def packages() -> list[Path]:
    """The folder of every package with modules in it, rooms and their parts."""
    return sorted(path.parent for path in ROOT.glob("janflask/**/__init__.py") if path.parent.name != "janflask")


def modules(package: Path) -> list[Path]:
    """Its modules, by name; a package in it has a docstring of its own."""
    return sorted(path for path in package.glob("*.py") if not path.name.startswith("__init__"))


def docstring(path: Path) -> str:
    """Raises ValueError for a module without one."""
    found = ast.get_docstring(ast.parse(path.read_text()))
    if not found:
        raise ValueError(f"{path.relative_to(ROOT)} needs a docstring")
    return found


def first_line(path: Path) -> str:
    """Of a module's docstring, without its full stop."""
    return docstring(path).splitlines()[0].removesuffix(".")


def package_docstring(package: Path) -> str:
    """The whole docstring of a package: its first paragraph, and its modules."""
    head = docstring(package / "__init__.py").split("\n\n", 1)[0]
    lines = [
        textwrap.fill(
            f"``{path.stem}``: {first_line(path)}", WIDTH, subsequent_indent="    ", break_long_words=False,
            break_on_hyphens=False,
        )
        for path in modules(package)
    ]  # fmt: skip
    if not lines:
        return head
    return head + "\n\n" + "\n".join(lines) + "\n"


def with_docstring(path: Path, text: str) -> str:
    """The source of ``path`` with ``text`` as its docstring."""
    source = path.read_text()
    node = ast.parse(source).body[0]
    rest = "".join(source.splitlines(keepends=True)[node.end_lineno :])
    prefix = "r" if "\\" in text else ""
    return f'{prefix}"""{text}"""\n{rest}'


def rooms_table() -> str:
    """A line for each room."""
    lines = ["| room | what it is |", "|---|---|"]
    for package in packages():
        name = str(package.relative_to(ROOT / "janflask"))
        head = " ".join(docstring(package / "__init__.py").split("\n\n", 1)[0].split())
        lines.append(f"| `{name}/` | {head.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def imports_table() -> str:
    """Who may import whom, as ``import_rules`` has it."""
    lines = ["| who | may import, besides " + ", ".join(f"`{name}`" for name in sorted(BASE)) + " |", "|---|---|"]
    for room, allowed in ALLOWED.items():
        if room in BASE:
            continue
        shown = ", ".join(f"`{name}`" for name in ALLOWED if name in allowed - BASE)
        lines.append(f"| `{room}` | {shown or 'nothing'} |")
    return "\n".join(lines)


def page() -> str:
    """``docs/architecture.md`` with its two tables made anew."""
    text = PAGE.read_text()
    for name, table in (("rooms", rooms_table()), ("imports", imports_table())):
        pattern = re.compile(rf"(<!-- {name}: made by `make docs` -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{PAGE.name} has no place for the table of {name}")
    return text


def files() -> Iterator[tuple[Path, str]]:
    """Every file that is written here, and what it should hold."""
    for package in packages():
        path = package / "__init__.py"
        yield path, with_docstring(path, package_docstring(package))
    yield PAGE, page()


def main() -> int:
    """Writes what has changed."""
    for path, text in files():
        if path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
