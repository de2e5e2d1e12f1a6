"""Builds llama-cpp-python for this machine and installs it into the environment that runs this.

It comes as source only, takes minutes to compile and, compiled by the wrong compiler without the right flags, crashes
on a CPU with AMX (see ``tools.compiler``). Only what is loaded is compiled, see ``RECIPE``. pip keeps the wheels it
builds without regard to flags, compiler or CPU, so we keep our own, in ``$XDG_CACHE_HOME/janflask/wheels/<key>/``: the
key is made of everything that the result depends on. ``CC``, ``CXX``, ``CFLAGS``, ``CXXFLAGS`` and ``CMAKE_ARGS`` are
honoured. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import compiler
from tools.progress import CommandError, exit_on_sigterm, run_logged

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "llama-cpp-python"
BUILD_CONSTRAINTS = ROOT / "requirements" / "build.txt"
ORIGIN = "@loader_path" if sys.platform == "darwin" else "$ORIGIN"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is built of the sources, however the machine looks: pip's config settings and CMake's definitions."""

    settings: tuple[str, ...]
    cmake_args: tuple[str, ...]


# llama-cpp-python's own CMakeLists.txt has libcommon and libmtmd built, too: 110 of 193 steps, for what nothing
# here loads. llama.cpp's leaves them out when told to, so that one is built, into the folder that is looked into.
RECIPE = Recipe(
    settings=("cmake.source-dir=vendor/llama.cpp", "wheel.install-dir=llama_cpp"),
    cmake_args=(
        *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TOOLS", "SERVER", "APP", "EXAMPLES", "TESTS")),
        "-DBUILD_SHARED_LIBS=ON",
        "-DCMAKE_INSTALL_LIBDIR=lib",
        "-DCMAKE_INSTALL_BINDIR=lib",  # where ggml puts backends that are loaded at run time
        f"-DCMAKE_INSTALL_RPATH={ORIGIN}",
        "-DGGML_NATIVE=ON",  # else a SOURCE_DATE_EPOCH in the environment turns it off without a word
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one build depends on."""

    version: str
    toolchain: compiler.Toolchain
    compilers: tuple[str, ...]
    cmake_args: tuple[str, ...]
    environment: tuple[str, ...]
    machine: tuple[str, ...]
    reason: str
    recipe: Recipe = RECIPE

    @property
    def key(self) -> str:
        """The name of the cache folder: the version to read, and a digest of all that may change the result."""
        built = [self.recipe.settings, self.recipe.cmake_args, self.cmake_args]
        parts = [self.version, self.compilers, built, self.environment, self.machine]
        return f"{self.version}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def pinned_version() -> str:
    """The version of llama-cpp-python that pyproject.toml asks for."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for line in dependencies:
        name, _, version = str(line).partition("==")
        if name == PACKAGE and version:
            return version
    raise ValueError(f"pyproject.toml has no dependency {PACKAGE}==VERSION")


def make_plan(version: str, env: Mapping[str, str]) -> Plan:
    """Looks at this machine's compilers and CPU.

    Raises:
        FileNotFoundError: a compiler is missing.
        RuntimeError: the compiler would break the library and no flag helps.
    """
    users = shlex.split(env.get("CMAKE_ARGS", ""))
    toolchain = compiler.find_toolchain(env, users)
    cpu = compiler.cpu_flags()
    decision = compiler.decide(toolchain.cxx, platform.machine(), cpu)
    return Plan(
        version=version,
        toolchain=toolchain,
        compilers=tuple(compiler.identify(command) for command in (toolchain.c, toolchain.cxx)),
        cmake_args=tuple(compiler.with_flags(users, decision.flags, env)),
        environment=tuple(f"{name}={env[name]}" for name in ("CFLAGS", "CXXFLAGS", "LDFLAGS") if env.get(name)),
        machine=(sys.platform, platform.machine(), *platform.libc_ver(), *cpu),
        reason=decision.reason,
    )


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where the wheels are kept."""
    base = env.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "janflask" / "wheels"


def cached_wheel(folder: Path) -> Path | None:
    """The wheel in a key's folder, if there is one and it is whole; a broken one is removed."""
    for wheel in sorted(folder.glob("*.whl")):
        if is_whole(wheel):
            return wheel
        say(f"{wheel} is damaged and will be built again")
        wheel.unlink()
    return None


def is_whole(wheel: Path) -> bool:
    """Whether every file in the archive has the checksum that the archive gives for it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        return False


@contextlib.contextmanager
def locked(path: Path, busy: str = "llama.cpp: another process builds the same") -> Iterator[None]:
    """Holds an exclusive lock on ``path``, saying that it is ``busy`` while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        waited = 0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % 10 == 0:
                    print(f"{busy}; waiting for it ({waited} s)", flush=True)
                time.sleep(1)
                waited += 1
        yield


def build(plan: Plan, folder: Path, env: Mapping[str, str]) -> Path:
    """Compiles the wheel and moves it into ``folder`` in one step.

    Raises:
        CommandError: the build failed; the message has the end of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-", ignore_cleanup_errors=True) as scratch:
        label = f"compiling {PACKAGE} {plan.version}"
        wheel = pip_wheel(plan, Path(scratch), env, label=label, log=folder / "build.log")
        return wheel.replace(folder / wheel.name)


def pip_wheel(plan: Plan, scratch: Path, env: Mapping[str, str], *, label: str, log: Path) -> Path:
    """Has pip fetch the sources and build ``plan`` of them; everything it writes, the wheel too, is in ``scratch``.

    Raises:
        CommandError: the build failed; the message has the end of its output.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-cache-dir"]
    command = [*pip, "--no-binary", PACKAGE, "--wheel-dir", str(scratch)]
    for setting in plan.recipe.settings:
        command += ["--config-settings", setting]
    if BUILD_CONSTRAINTS.exists():
        command += ["--build-constraint", str(BUILD_CONSTRAINTS)]
    # An interrupted pip leaves its temporary files where they are: in our own folder.
    child = compiler.toolchain_env(plan.toolchain, env)
    # CMake takes the last of two definitions: the user's.
    child |= {"CMAKE_ARGS": shlex.join([*plan.recipe.cmake_args, *plan.cmake_args]), "TMPDIR": str(scratch)}
    run_logged([*command, f"{PACKAGE}=={plan.version}"], label=label, log=log, env=child)
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise CommandError(f"pip left {len(wheels)} wheels where one was expected; see {log}")
    return wheels[0]


def is_installed(wheel: Path) -> bool:
    """Whether this environment's llama-cpp-python was installed from exactly this wheel."""
    try:
        record = importlib.metadata.distribution(PACKAGE).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return False
    hashes = json.loads(record or "{}").get("archive_info", {}).get("hashes", {})
    with wheel.open("rb") as file:
        return bool(hashes.get("sha256") == hashlib.file_digest(file, "sha256").hexdigest())


def install(wheel: Path) -> None:
    """Installs the wheel over whatever is there."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall"]
    subprocess.run([*pip, str(wheel)], check=True)


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(f"llama.cpp: {text}", flush=True)


def compiled(env: Mapping[str, str]) -> Path:
    """The wheel for this machine out of the cache; compiles it if it is not there."""
    plan = make_plan(pinned_version(), env)
    folder = cache_folder(env) / plan.key
    with locked(folder.with_name(f"{folder.name}.lock")):
        wheel = cached_wheel(folder)
        if wheel is None:
            say(f"{plan.reason}; {plan.compilers[-1]}")
            if plan.cmake_args:
                say(f"CMAKE_ARGS: {shlex.join(plan.cmake_args)}")
            say("compiling it for this machine, once; this takes a good 2 minutes on 2 cores")
            wheel = build(plan, folder, env)
        return wheel


def ensure(env: Mapping[str, str]) -> None:
    """Makes sure that the right build is installed, with as little work as possible."""
    wheel = compiled(env)
    if is_installed(wheel):
        say(f"{wheel} is already installed")
    else:
        say(f"installing {wheel}")
        install(wheel)


def main() -> int:
    """``python -m tools.build_llama``.

    ``--compile`` only sees to it that the wheel is in the cache, ``--key`` only prints the folder it belongs in.
    """
    exit_on_sigterm()
    try:
        if "--key" in sys.argv[1:]:
            print(cache_folder(os.environ) / make_plan(pinned_version(), os.environ).key)
        elif "--compile" in sys.argv[1:]:
            compiled(os.environ)
        else:
            ensure(os.environ)
    except (CommandError, OSError, RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"llama.cpp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llama.cpp: interrupted; nothing was installed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
