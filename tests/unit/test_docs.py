"""The pages tell the truth: generated ones are up to date, links lead somewhere, commands are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from janflask.settings import Settings, table
from tools import lock, rooms_doc, settings_doc

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
MAKE = re.compile(r"`(?:\w+=\S+ )*make ([a-z-]+)[^`]*`|^\s*(?:\$ )?make ([a-z-]+)", re.MULTILINE)
VARIABLE = re.compile(r"\bJANFLASK_[A-Z_]+\b")

# Variables that are not settings of the server.
OTHER_VARIABLES = {
    *("JANFLASK_CYTHON_DEBUG", "JANFLASK_TEST_GGUF", "JANFLASK_LLAMA_SERVER"),
    *("JANFLASK_API_KEY", "JANFLASK_CA_FILE"),  # the commands', not the server's
    *("JANFLASK_UPSTREAM_", "JANFLASK_UPSTREAM_KEY"),  # what a model.json may name
}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, the way code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_doc.TARGET.read_text() == settings_doc.render(), "run `make docs`"


def test_the_settings_page_has_every_setting() -> None:
    page = settings_doc.render()
    assert all(f"| `{name}` | `{default}` |" in page for name, default, _ in table())


def test_a_bar_cannot_break_a_table() -> None:
    assert settings_doc.cell("a|b") == "a\\|b"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.exists() or (anchor and linked.suffix == ".md" and anchor not in anchors(linked)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_variables_are_there(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    variables = {name for name, _, _ in table()} | OTHER_VARIABLES
    assert {first or second for first, second in MAKE.findall(text)} - targets == set()
    assert set(VARIABLE.findall(text)) - variables == set()


def test_what_is_told_from_the_sources_is_up_to_date() -> None:
    stale = [page_id(path) for path, text in rooms_doc.files() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_the_architecture_page_names_every_part_of_the_extension() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    kernels = [path.stem for path in ROOT.glob("ext/janflask_ext/*.pyx")]
    assert sorted(name for name in kernels if f"`{name}`" not in page and f"janflask_ext/{name}`" not in page) == []


def test_the_architecture_page_names_no_module_that_is_not_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    there = {path.name for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    assert set(re.findall(r"\b(\w+\.py)\b", page)) - there == set()


def test_what_is_wanted_is_locked() -> None:
    """Each dependency in pyproject.toml has its exact version in a lock file."""
    locked = {
        line.split("==")[0]
        for path in lock.REQUIREMENTS.glob("*.txt")
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    }
    project = lock.project_table()
    extra = project["optional-dependencies"]
    wanted = {
        lock.canonical(re.split(r"[<>=!~ \[;]", line)[0])
        for line in [*project["dependencies"], *extra["test"], *extra["dev"], *project["build-requires"]]
    }
    assert wanted - locked == {lock.LLAMA}, "run `make lock`"


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=page_id)
def test_lock_files_hold_exact_versions(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)


def test_systemd_waits_for_as_long_as_the_server_may_take_to_leave() -> None:
    """As docs/operations.md has it: whoever kills before that cuts streams off."""
    usual = Settings()
    needed = usual.drain_delay + usual.drain_timeout + usual.stop_timeout + 10
    given = re.search(r"^TimeoutStopSec=(\d+)$", (ROOT / "conf" / "janflask.service").read_text(), re.MULTILINE)
    assert given is not None
    assert int(given[1]) >= needed
