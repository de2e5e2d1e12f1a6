"""How llama.cpp's build is decided, cached, locked and followed; nothing here compiles llama.cpp or calls pip."""

from __future__ import annotations

import io
import multiprocessing
import os
import platform
import pty
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import build_llama, build_peer, compiler
from tools.build_llama import RECIPE, Plan, Recipe
from tools.compiler import Toolchain
from tools.progress import CommandError, Phase, ProgressLine, exit_on_sigterm, run_logged

AMX = ("amx_tile", "avx512f")
ROOT = Path(__file__).resolve().parents[2]

FakeCompiler = Callable[[str], list[str]]


@pytest.fixture
def fake_compiler(tmp_path: Path) -> FakeCompiler:
    """Makes a compiler of a few shell lines, which see the flags in ``$@`` and the probe on standard input."""

    def make(script: str) -> list[str]:
        path = tmp_path / "fake-c++"
        path.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
        path.chmod(0o755)
        return [str(path)]

    return make


KEEPS = f"echo 'movzbl {compiler.SENTINEL}(%rip), %eax'; echo 'ldtilecfg -72(%rsp)'"
DROPS = "echo 'ldtilecfg -72(%rsp)'"


# --- the probe -------------------------------------------------------------------------------------------------------


def test_the_probe_agrees_with_what_is_known_about_this_machines_compiler() -> None:
    command = compiler.find_toolchain({}).cxx
    version = subprocess.run([*command, "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()
    expected: bool | None
    if platform.machine() != "x86_64":
        expected = None
    elif "clang" in compiler.identify(command).lower() or version.count(".") != 2:
        expected = False
    else:
        number = tuple(int(part) for part in version.split("."))
        fixed = {11: (12,), 12: (12, 4), 13: (13, 3)}
        expected = None if number < (11,) else number < fixed.get(number[0], (0,))
    assert compiler.drops_tile_stores(command) is expected


def test_the_remedies_help_this_machines_compiler() -> None:
    command = compiler.find_toolchain({}).cxx
    assert all(compiler.drops_tile_stores(command, flags) is not True for flags in compiler.REMEDIES)


def test_a_compiler_that_drops_the_stores_gets_the_flags_that_keep_them(fake_compiler: FakeCompiler) -> None:
    command = fake_compiler(f'case "$*" in *-fno-tree-dse*) {KEEPS} ;; *) {DROPS} ;; esac')
    decision = compiler.decide(command, "x86_64", AMX)
    assert decision.flags == ("-fno-tree-dse", "-fno-dse")
    assert "114098" in decision.reason


def test_where_the_first_remedy_does_not_help_amx_is_turned_off(fake_compiler: FakeCompiler) -> None:
    command = fake_compiler(f'case "$*" in *-mno-amx-tile*) exit 1 ;; *) {DROPS} ;; esac')
    assert compiler.decide(command, "x86_64", AMX).flags == ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")


def test_a_compiler_that_nothing_helps_is_refused(fake_compiler: FakeCompiler) -> None:
    with pytest.raises(RuntimeError, match="set CXX to another compiler"):
        compiler.decide(fake_compiler(DROPS), "x86_64", AMX)


@pytest.mark.parametrize(
    ("script", "machine", "cpu"),
    [
        (KEEPS, "x86_64", AMX),
        (DROPS, "x86_64", ("avx512f",)),
        (DROPS, "aarch64", AMX),
        ("echo 'unknown option' >&2; exit 1", "x86_64", AMX),
        ("echo 'ret'", "x86_64", AMX),
    ],
    ids=["healthy compiler", "no AMX in the CPU", "arm64", "probe does not compile", "no AMX instruction made"],
)
def test_nothing_is_changed_where_nothing_is_broken(
    fake_compiler: FakeCompiler, script: str, machine: str, cpu: tuple[str, ...]
) -> None:
    decision = compiler.decide(fake_compiler(script), machine, cpu)
    assert decision.flags == ()
    assert "nothing to work around" in decision.reason


# --- which compiler, which flags -------------------------------------------------------------------------------------


def test_named_compilers_win(fake_compiler: FakeCompiler) -> None:
    path = fake_compiler("")[0]
    assert compiler.find_toolchain({"CXX": f"env {path}"}).cxx == ("env", path)
    assert compiler.find_toolchain({"CXX": "nonsense"}, [f"-DCMAKE_CXX_COMPILER:FILEPATH={path}"]).cxx == (path,)


def test_a_named_c_compiler_brings_its_cxx_partner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("clang-19", "clang++-19", "c++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.find_toolchain({"CC": "clang-19"}) == Toolchain(c=("clang-19",), cxx=("clang++-19",))


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="'no-such-compiler'"):
        compiler.find_toolchain({"CXX": "no-such-compiler"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no C compiler found"):
        compiler.find_toolchain({})


def test_flags_join_the_users_own() -> None:
    users = ["-DGGML_CUDA=on", "-DCMAKE_CXX_FLAGS=-g -Wall"]
    made = compiler.with_flags(users, ("-fx", "-fy"), {"CFLAGS": "-O2", "CXXFLAGS": "hidden by -D"})
    assert made == ["-DGGML_CUDA=on", "-DCMAKE_C_FLAGS=-O2 -fx -fy", "-DCMAKE_CXX_FLAGS=-g -Wall -fx -fy"]
    assert shlex.split(shlex.join(made)) == made
    assert compiler.with_flags(users, (), {"CFLAGS": "-O2"}) == users


def test_cpu_flags_are_read_from_both_kinds_of_cpuinfo() -> None:
    assert compiler.cpu_flags("processor\t: 0\nflags\t\t: sse amx_tile\nbogomips: 1\n") == ("amx_tile", "sse")
    assert compiler.cpu_flags("Features\t: fp asimd\nCPU part\t: 0xd0c\n") == ("0xd0c", "asimd", "fp")
    assert compiler.cpu_flags("") == (platform.machine(), platform.processor())


# --- the cache -------------------------------------------------------------------------------------------------------


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "version": "0.3.36",
        "toolchain": Toolchain(c=("cc",), cxx=("c++",)),
        "compilers": ("cc 12.2.0", "c++ 12.2.0"),
        "cmake_args": (),
        "environment": (),
        "machine": ("linux", "x86_64", "avx2"),
        "reason": "because",
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def test_the_key_follows_everything_that_the_build_depends_on() -> None:
    plans = [
        plan(),
        plan(version="0.3.37"),
        plan(compilers=("cc 13.3.0", "c++ 13.3.0")),
        plan(cmake_args=("-DGGML_CUDA=on",)),
        plan(environment=("CFLAGS=-O1",)),
        plan(machine=("linux", "x86_64", "avx2", "amx_tile")),
        plan(recipe=Recipe(settings=RECIPE.settings, cmake_args=())),
        plan(recipe=Recipe(settings=(), cmake_args=RECIPE.cmake_args)),
        plan(recipe=build_peer.RECIPE),
    ]
    assert len({each.key for each in plans}) == len(plans)
    assert plan().key == plan(reason="told differently").key
    assert plan().key.startswith("0.3.36-")


def test_the_plan_takes_up_the_environment(tmp_path: Path) -> None:
    made = build_llama.make_plan("0.3.36", {"CMAKE_ARGS": '-DA=1 -DB="x y"', "LDFLAGS": "-s"})
    assert made.cmake_args[:2] == ("-DA=1", "-DB=x y")
    assert made.environment == ("LDFLAGS=-s",)
    assert build_llama.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "janflask" / "wheels"


def write_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("llama_cpp/__init__.py", "x = 1\n" * 1000)
    return path


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "empty"])
def test_a_damaged_wheel_is_thrown_away(tmp_path: Path, damage: str) -> None:
    wheel = write_wheel(tmp_path / "a-1-py3-none-any.whl")
    assert build_llama.cached_wheel(tmp_path) == wheel
    data = bytearray(wheel.read_bytes())
    data[60] ^= 0xFF
    wheel.write_bytes({"truncated": data[:-30], "bit flipped": data, "empty": b""}[damage])
    assert build_llama.cached_wheel(tmp_path) is None
    assert not wheel.exists()


@pytest.fixture
def sigterm_as_before() -> Iterator[None]:
    """For programs that turn it into an exception."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python whose ``-m pip wheel`` writes what it is told to; returns the file that counts its calls."""
    calls = tmp_path / "calls"
    source = write_wheel(tmp_path / "source.whl")
    script = tmp_path / "fake-python"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$CMAKE_ARGS|$CC|$CXX|$*" >> {calls}\n'
        'while [ -n "$1" ]; do\n'
        '  case "$1" in --wheel-dir) wheels=$2 ;; build-dir=*) build=${1#*=}/bin ;; esac; shift\n'
        "done\n"
        '[ -z "$build" ] || { mkdir -p "$build/junk"; echo binary > "$build/llama-server"; '
        'ln -s libggml.so.0 "$build/libggml.so"; echo library > "$build/libggml.so.0"; }\n'
        '[ -z "$FAIL" ] || { echo "error: no luck"; exit 1; }\n'
        f'cp {source} "$wheels/llama_cpp_python-0.3.36-py3-none-any.whl"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(build_llama.sys, "executable", str(script))
    return calls


def test_a_build_lands_in_the_cache_whole(tmp_path: Path, fake_pip: Path) -> None:
    folder = tmp_path / "cache" / plan().key
    wheel = build_llama.build(plan(cmake_args=("-DX=a b",)), folder, dict(os.environ))
    assert build_llama.cached_wheel(folder) == wheel
    assert sorted(path.name for path in folder.iterdir()) == ["build.log", wheel.name]
    cmake_args, cc, cxx, arguments = fake_pip.read_text().strip().split("|")
    assert (shlex.split(cmake_args), cc, cxx) == ([*RECIPE.cmake_args, "-DX=a b"], "cc", "c++")  # the user's come last
    assert "--no-cache-dir --no-binary llama-cpp-python" in arguments
    assert "--config-settings cmake.source-dir=vendor/llama.cpp" in arguments
    assert arguments.endswith("llama-cpp-python==0.3.36")


def test_a_failed_build_leaves_nothing_and_shows_the_end_of_its_output(tmp_path: Path, fake_pip: Path) -> None:
    folder = tmp_path / "cache" / "key"
    with pytest.raises(CommandError, match=r"error: no luck[\s\S]*build\.log"):
        build_llama.build(plan(), folder, dict(os.environ) | {"FAIL": "1"})
    assert [path.name for path in folder.iterdir()] == ["build.log"]


def test_only_one_builds_and_the_other_uses_its_wheel(
    tmp_path: Path, fake_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_llama, "is_installed", lambda wheel: True)
    env = dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path)}
    build_llama.ensure(env)
    build_llama.ensure(env)
    assert len(fake_pip.read_text().splitlines()) == 1


@pytest.mark.usefixtures("sigterm_as_before")
def test_compiling_alone_installs_nothing_and_installing_compiles_nothing_again(
    tmp_path: Path, fake_pip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[Path] = []
    monkeypatch.setattr(build_llama, "install", installed.append)
    monkeypatch.setattr(build_llama, "is_installed", lambda wheel: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build_llama.sys, "argv", ["build_llama", "--compile"])
    assert build_llama.main() == 0
    assert installed == []
    build_llama.ensure(os.environ)
    assert [wheel.name for wheel in installed] == ["llama_cpp_python-0.3.36-py3-none-any.whl"]
    assert len(fake_pip.read_text().splitlines()) == 1


def _hold(path: Path, ready: object, release: object) -> None:
    with build_llama.locked(path):
        ready.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_a_waiting_build_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "key.lock", ready, release))
    other.start()
    try:
        assert ready.wait(60)
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            release.set()
            other.join(60)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build_llama.time, "sleep", sleep)
            with build_llama.locked(tmp_path / "key.lock"):
                pass
    finally:
        release.set()
        other.join(60)
    assert waits == [1]
    assert "another process builds the same" in capsys.readouterr().out


def test_the_version_is_the_one_in_pyproject() -> None:
    assert f'"llama-cpp-python=={build_llama.pinned_version()}"' in (ROOT / "pyproject.toml").read_text()


# --- the peer of the benchmarks --------------------------------------------------------------------------------------


def test_the_peer_is_built_once_and_kept_with_its_libraries(tmp_path: Path, fake_pip: Path) -> None:
    env = dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path)}
    assert build_peer.find(env) is None
    server = build_peer.ensure(env)
    assert (server.name, server.read_text()) == ("llama-server", "binary\n")
    assert sorted(path.name for path in server.parent.iterdir()) == ["libggml.so", "libggml.so.0", "llama-server"]
    assert (server.parent / "libggml.so").read_text() == "library\n"
    assert sorted(path.name for path in server.parent.parent.iterdir()) == ["bin", "build.log"]
    assert server == build_peer.ensure(env) == build_peer.find(env)
    calls = fake_pip.read_text().splitlines()
    assert len(calls) == 1
    assert "--config-settings build.targets=llama-server" in calls[0]


def test_a_peer_that_could_not_be_built_is_not_there(tmp_path: Path, fake_pip: Path) -> None:
    env = dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path), "FAIL": "1"}
    with pytest.raises(CommandError, match="no luck"):
        build_peer.ensure(env)
    assert build_peer.find(env) is None
    assert build_peer.ensure(env | {"FAIL": ""}).exists()


@pytest.mark.usefixtures("sigterm_as_before")
def test_what_to_run_for_the_peer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build_peer.sys, "argv", ["build_peer", "--path"])
    assert build_peer.main() == 1
    out, err = capsys.readouterr()
    assert (out, "make bench-peer" in err) == ("", True)


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("  Downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)", "downloading"),
        ("  *** Configuring CMake...", "configuring"),
        ("  [7/200] /usr/bin/c++ -O3 -o a/ggml.cpp.o -c /x/ggml.cpp", "  3% [7/200] ggml.cpp"),
        ("  [ 45%] Building CXX object src/llama-graph.cpp.o", " 45% llama-graph.cpp"),
        ("  *** Making wheel...", "packing"),
        ("  in file included from here:", "before"),
    ],
)
def test_the_phase_is_read_from_the_output(line: str, text: str) -> None:
    phase = Phase()
    phase.text = "before"
    phase.read(line)
    assert phase.text == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (Terminal(), "\r\x1b[Kjob 0:00  a\r\x1b[Kjob 0:06  b\r\x1b[Kjob 1:06  done\n"),
        (io.StringIO(), "job 0:00  a\njob 0:06  b\njob 1:06  done\n"),
    ],
    ids=["terminal", "file"],
)
def test_a_line_is_redrawn_on_a_terminal_and_repeated_elsewhere(stream: io.StringIO, expected: str) -> None:
    now = 0.0
    line = ProgressLine("job", stream, clock=lambda: now)
    line.show("a")
    now = 0.1
    line.show("too early")
    now = 6.0
    line.show("b")
    now = 66.0
    line.finish("done")
    assert stream.getvalue() == expected


def test_of_two_processes_at_one_terminal_one_redraws_its_line(tmp_path: Path) -> None:
    """The second says only that it is done; the first line, long under way, is not covered by its redraws."""
    go = tmp_path / "go"
    os.mkfifo(go)
    screen, terminal = pty.openpty()
    job = [sys.executable, "-m", "tools.progress"]
    wait = ["sh", "-c", f"echo '[1/2] cc -c a.c'; read line < {go}"]
    chatty = ["sh", "-c", "echo '[1/2] cc -c b.c'"]
    try:
        with subprocess.Popen([*job, "first", str(tmp_path / "1.log"), *wait], cwd=ROOT, stdout=terminal) as first:
            try:
                seen = _read_until(screen, "a.c")
                subprocess.run(
                    [*job, "second", str(tmp_path / "2.log"), *chatty], cwd=ROOT, stdout=terminal, check=True
                )
                go.write_text("on\n")
                assert first.wait(60) == 0
                seen += _read_until(screen, "first", "done")
                subprocess.run([*job, "third", str(tmp_path / "3.log"), *chatty], cwd=ROOT, stdout=terminal, check=True)
                seen += _read_until(screen, "third", "done")
            finally:
                first.kill()
    finally:
        os.close(screen)
        os.close(terminal)
    assert re.findall(r"second [^\r]*", seen) == ["second 0:00  done"]
    assert "b.c" in seen.partition("third")[2]  # its turn has come


def _read_until(descriptor: int, *words: str) -> str:
    text = ""
    while not all(word in text for word in words):
        text += os.read(descriptor, 65536).decode()
    return text


def test_output_goes_to_the_log_and_the_status_is_told(tmp_path: Path) -> None:
    stream = io.StringIO()
    command = [sys.executable, "-c", "print('[1/2] cc -c a.c'); print('last words'); raise SystemExit(3)"]
    with pytest.raises(CommandError, match="last words"):
        run_logged(command, label="job", log=tmp_path / "x.log", env=os.environ, stream=stream)
    assert (tmp_path / "x.log").read_text() == "[1/2] cc -c a.c\nlast words\n"
    assert "failed (status 3)" in stream.getvalue()


@pytest.mark.usefixtures("sigterm_as_before")
def test_a_signal_while_the_command_is_being_started_still_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command runs before its start has returned to us; that is when the SIGTERM comes here."""
    started = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("tools.progress.subprocess.Popen", Interrupted)
    exit_on_sigterm()
    with pytest.raises(SystemExit):
        run_logged(["sleep", "300"], label="job", log=tmp_path / "x.log", env=os.environ, stream=io.StringIO())
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_a_terminated_build_takes_its_children_along(tmp_path: Path) -> None:
    """The grandchild holds a FIFO open: when that reads as ended, all of them are gone."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"exec 9> {fifo}; sleep 300 & echo up >&9; wait"
    command = [sys.executable, "-m", "tools.progress", "job", str(tmp_path / "x.log"), "sh", "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            with fifo.open() as up:
                assert up.readline() == "up\n"
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 128 + signal.SIGTERM
                assert up.read() == ""
        finally:
            process.kill()
