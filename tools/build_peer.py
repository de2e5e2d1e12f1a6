"""Builds llama-server of the very sources that llama-cpp-python is compiled from: what the benchmarks compare with.

With CMake's defaults, as its users build it (Release, for this CPU), without what only its web page and HTTPS need.
A compiler that breaks llama.cpp's AMX code is helped as in ``tools.build_llama``. It is kept in
``$XDG_CACHE_HOME/janflask/peers/<key>/bin/``, by a key made of all that the result depends on. Standard library only.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.build_llama import ORIGIN, Plan, Recipe, cache_folder, locked, make_plan, pinned_version, pip_wheel
from tools.progress import CommandError, exit_status

NAME = "llama-server"
RECIPE = Recipe(
    settings=("cmake.source-dir=vendor/llama.cpp", f"build.targets={NAME}"),
    cmake_args=(
        *(f"-DLLAMA_{part}=OFF" for part in ("BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_APP", "BUILD_UI")),
        *(f"-DLLAMA_{part}=OFF" for part in ("USE_PREBUILT_UI", "OPENSSL", "TOOLS_INSTALL")),
        "-DGGML_NATIVE=ON",
        "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",  # the build's bin/ is what we keep, and it is moved
        f"-DCMAKE_INSTALL_RPATH={ORIGIN}",
    ),
)


def make_peer_plan(env: Mapping[str, str]) -> Plan:
    """The build of llama-server that belongs to this machine. Raises what ``make_plan`` raises."""
    return dataclasses.replace(make_plan(pinned_version(), env), recipe=RECIPE)


def find(env: Mapping[str, str]) -> Path | None:
    """The llama-server that belongs to this machine and these sources, if it was built. Builds nothing."""
    path = _place(make_peer_plan(env), env) / "bin" / NAME
    return path if path.exists() else None


def ensure(env: Mapping[str, str]) -> Path:
    """The same, built if it is not there; it appears whole or not at all.

    Raises:
        CommandError: the build failed; the message has the end of its output.
    """
    plan = make_peer_plan(env)
    folder = _place(plan, env)
    with locked(folder.with_name(f"{folder.name}.lock"), f"{NAME}: another process builds the same"):
        if not (folder / "bin").exists():
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix="build-", ignore_cleanup_errors=True) as scratch:
                _build(plan, Path(scratch), env, folder / "build.log").rename(folder / "bin")
    return folder / "bin" / NAME


def _place(plan: Plan, env: Mapping[str, str]) -> Path:
    return cache_folder(env).with_name("peers") / plan.key


def _build(plan: Plan, scratch: Path, env: Mapping[str, str], log: Path) -> Path:
    """The folder with the binary and the libraries that it loads from its own folder."""
    build = scratch / "build"
    recipe = dataclasses.replace(plan.recipe, settings=(*plan.recipe.settings, f"build-dir={build}"))
    label = f"compiling {NAME}"
    pip_wheel(dataclasses.replace(plan, recipe=recipe), scratch, env, label=label, log=log)
    made = build / "bin"
    if not (made / NAME).exists():
        raise CommandError(f"{NAME} was not built; see {log}")
    kept = scratch / "bin"
    kept.mkdir()
    for file in (made / NAME, *made.glob("lib*")):
        shutil.move(file, kept / file.name)
    return kept


def main() -> int:
    """``python -m tools.build_peer``; ``--path`` only prints where it is, or says what to run (status 1)."""

    def work() -> None:
        if "--path" not in sys.argv[1:]:
            print(f"{NAME}: {ensure(os.environ)}", flush=True)
        elif path := find(os.environ):
            print(path)
        else:
            raise CommandError("it is not built yet: make bench-peer")

    return exit_status(NAME, work, RuntimeError, ValueError)


if __name__ == "__main__":
    sys.exit(main())
