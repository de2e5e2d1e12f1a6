"""The private folder of a server: who may use it, and what becomes of those that dead servers left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.errors import SettingsError
from janflask.processes import runtime_dir
from janflask.processes.runtime_dir import GRACE, RuntimeDir, check_private, check_socket_path


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where fresh folders are made, and nothing else is."""
    with tempfile.TemporaryDirectory(prefix="jf") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def make_old(path: Path) -> None:
    then = path.stat().st_mtime - GRACE - 1
    os.utime(path, (then, then))


def test_a_fresh_folder_is_private_and_goes_away(base: Path) -> None:
    first, second = RuntimeDir.create(None), RuntimeDir.create(None)
    assert first.path != second.path
    assert {first.path.parent, second.path.parent} == {base}
    assert first.path.stat().st_mode & 0o777 == 0o700
    (first.path / "supervisor.sock").touch()
    first.remove()
    second.remove()
    assert list(base.iterdir()) == []


def test_a_named_folder_is_made_and_kept(base: Path) -> None:
    named = base / "deep" / "run"
    held = RuntimeDir.create(named)
    assert held.path == named
    assert named.stat().st_mode & 0o777 == 0o700
    (named / "engine-1-1.sock").touch()
    (named / "running.json").touch()
    (named / "notes.txt").touch()
    held.remove()
    assert {path.name for path in named.iterdir()} == {"lock", "notes.txt"}


def test_a_named_folder_does_not_remember_the_server_before(base: Path) -> None:
    named = base / "run"
    named.mkdir(mode=0o700)
    (named / "running.json").write_text('{"m": {}}')
    (named / "upstream-1.places").touch()
    held = RuntimeDir.create(named)
    assert not (named / "running.json").exists()
    assert not (named / "upstream-1.places").exists()
    held.remove()


def test_two_servers_do_not_share_one(base: Path) -> None:
    held = RuntimeDir.create(base / "run")
    with pytest.raises(SettingsError, match="in use by another server"):
        RuntimeDir.create(base / "run")
    held.remove()
    RuntimeDir.create(base / "run").remove()


def test_what_is_not_private_is_refused(base: Path) -> None:
    (base / "open").mkdir(mode=0o700)
    (base / "open").chmod(0o710)
    with pytest.raises(SettingsError, match="chmod 700"):
        RuntimeDir.create(base / "open")
    (base / "target").mkdir(mode=0o700)
    (base / "link").symlink_to(base / "target")
    with pytest.raises(SettingsError, match="symbolic link"):
        check_private(base / "link")
    (base / "file").touch(mode=0o600)
    with pytest.raises(SettingsError, match="is not a folder"):
        check_private(base / "file")


def test_another_users_folder_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "run").mkdir(mode=0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(SettingsError, match="belongs to user"):
        check_private(base / "run")


def test_socket_paths_have_a_limit(base: Path) -> None:
    check_socket_path(Path("/" + "x" * 102))
    for long in ("x" * 103, "é" * 52):
        with pytest.raises(SettingsError, match="too long"):
            check_socket_path(Path("/" + long))
    with pytest.raises(SettingsError, match="too long"):
        RuntimeDir.create(base / ("x" * 90))


def test_a_temporary_folder_too_deep_for_sockets_is_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(base))
    held = RuntimeDir.create(None)
    assert held.path.parent == base
    held.remove()


def test_only_what_dead_servers_left_is_removed(base: Path) -> None:
    alive = RuntimeDir.create(None)
    dead = RuntimeDir.create(None)
    os.close(dead._lock)
    starting = Path(tempfile.mkdtemp(prefix=runtime_dir._prefix(), dir=base))
    unlocked = Path(tempfile.mkdtemp(prefix=runtime_dir._prefix(), dir=base))
    others = base / f"janflask-{os.geteuid() + 1}-x"
    others.mkdir()
    link = base / (runtime_dir._prefix() + "link")
    link.symlink_to(others)
    for path in (alive.path, dead.path, unlocked, others):
        make_old(path)
    runtime_dir.remove_stale(base)
    assert set(base.iterdir()) == {alive.path, starting, others, link}
    alive.remove()


def test_the_lock_lives_as_long_as_a_forked_worker(base: Path) -> None:
    """A worker that is still finishing a stream keeps the folder of a killed master from being removed."""
    code = (
        "import os, sys; from pathlib import Path; from janflask.processes.runtime_dir import RuntimeDir\n"
        "held = RuntimeDir.create(None)\n"
        "if os.fork() == 0:\n"
        "    sys.stdin.read(); os._exit(0)\n"
        "print(held.path, flush=True); os._exit(0)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        path = Path(master.stdout.readline().strip())
        assert master.wait(20) == 0
        make_old(path)
        runtime_dir.remove_stale(base)
        assert path.exists()
