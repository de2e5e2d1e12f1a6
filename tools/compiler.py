"""Which flags llama.cpp must be compiled with here, decided by looking at what the compiler makes of a probe.

GCC before 12.4, 13.3 and 14 (bug 114098) believes that ``_tile_loadconfig`` reads 8 bytes where the instruction reads
64, and drops the stores to the rest as dead. ggml sets up its AMX tiles in exactly that way, so the library it makes
dies on its first decode on a CPU with AMX. Version numbers would be a guess (distributions carry fixes back), so the
probe stores a byte far behind the first 8 and we look whether the assembly still fetches it. That needs no AMX here.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SENTINEL = "janflask_probe_sentinel"
PROBE = f"""
#include <immintrin.h>
extern unsigned char {SENTINEL};
struct tile_config {{
    unsigned char palette, start_row, reserved[14];
    unsigned short colsb[16];
    unsigned char rows[16];
}};
void janflask_probe(void);
void janflask_probe(void) {{
    struct tile_config config = {{}};
    config.palette = 1;
    config.rows[15] = {SENTINEL};
    _tile_loadconfig(&config);
}}
"""

# In the order of preference: the first keeps AMX (4 times faster prompts), the second does without.
REMEDIES = (
    ("-fno-tree-dse", "-fno-dse"),
    ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16"),
)

# CMake's own order on Unix, less the compilers that no llama.cpp is built with.
C_COMPILERS = ("cc", "gcc", "clang")
CXX_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The compilers that CMake is told to use: a command each (a launcher such as ccache may stand before it)."""

    c: tuple[str, ...]
    cxx: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Extra compiler flags, and one sentence that says why."""

    flags: tuple[str, ...]
    reason: str


def find_toolchain(env: Mapping[str, str], cmake_args: Sequence[str] = ()) -> Toolchain:
    """What ``CC``/``CXX`` or ``-DCMAKE_C(XX)_COMPILER`` name, else the first one on the path.

    Raises:
        FileNotFoundError: there is no such compiler.
    """
    c = _find("C", env.get("CC"), C_COMPILERS, cmake_args)
    partners = _partners(c[-1]) if env.get("CC") and not env.get("CXX") else ()
    return Toolchain(c=c, cxx=_find("CXX", env.get("CXX"), (*partners, *CXX_COMPILERS), cmake_args))


def _find(language: str, chosen: str | None, candidates: Sequence[str], cmake_args: Sequence[str]) -> tuple[str, ...]:
    for argument in cmake_args:
        key, _, value = argument.partition("=")
        if key.split(":")[0] == f"-DCMAKE_{language}_COMPILER":
            chosen = shlex.quote(value)
    if chosen and chosen.strip():
        command = shlex.split(chosen)
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(f"the {language} compiler {chosen!r} is not there")
        return tuple(command)
    for name in candidates:
        if shutil.which(name):
            return (name,)
    raise FileNotFoundError(f"no {language} compiler found; tried {', '.join(candidates)}")


def _partners(c_compiler: str) -> tuple[str, ...]:
    """The C++ compiler that belongs to a C compiler, by name: gcc-12 -> g++-12, clang -> clang++."""
    path = Path(c_compiler)
    for old, new in (("clang", "clang++"), ("gcc", "g++"), ("cc", "c++")):
        if old in path.name:
            return (str(path.with_name(path.name.replace(old, new, 1))),)
    return ()


def identify(compiler: Sequence[str]) -> str:
    """A compiler's name, version and target, as it tells them itself."""
    version = _run([*compiler, "--version"]).splitlines()
    target = _run([*compiler, "-dumpmachine"]).strip()
    return f"{version[0].strip() if version else 'unknown'} ({target or 'unknown target'})"


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def drops_tile_stores(cxx: Sequence[str], flags: Sequence[str] = ()) -> bool | None:
    """Whether this compiler, with these flags, drops the stores that the tile configuration needs.

    Returns None when the probe does not compile or has no AMX instruction in it: nothing can be said then, and with
    such flags ggml's AMX code is not built either.
    """
    command = [*cxx, "-x", "c++", "-O3", "-mamx-tile", *flags, "-S", "-o", "-", "-"]
    result = subprocess.run(command, input=PROBE, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0 or "ldtilecfg" not in result.stdout:
        return None
    return SENTINEL not in result.stdout


def cpu_flags(cpuinfo: str | None = None) -> tuple[str, ...]:
    """The CPU's feature words, sorted: what ``-march=native`` goes by. Falls back to the CPU's name (macOS)."""
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(errors="replace") if path.exists() else ""
    # "CPU part" and its like tell two arm64 cores with the same features apart: -mcpu=native does so too.
    keys = ("flags", "Features", "CPU implementer", "CPU part")
    words: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            words.update(value.split())
    return tuple(sorted(words)) or (platform.machine(), platform.processor())


def decide(cxx: Sequence[str], machine: str, cpu: Sequence[str]) -> Decision:
    """The flags for llama.cpp on a machine of this architecture (``platform.machine()``) with these CPU flags."""
    if machine.lower() not in ("x86_64", "amd64"):
        return Decision((), f"{machine} has no AMX, nothing to work around")
    if "amx_tile" not in cpu:
        return Decision((), "this CPU has no AMX, nothing to work around")
    broken = drops_tile_stores(cxx)
    if broken is None:
        return Decision((), f"{cxx[-1]} compiles no AMX code, nothing to work around")
    if not broken:
        return Decision((), f"{cxx[-1]} keeps the AMX tile configuration, nothing to work around")
    for flags in REMEDIES:
        # None: the flags have turned AMX off, which is safe too.
        if drops_tile_stores(cxx, flags) is not True:
            return Decision(flags, f"{cxx[-1]} drops stores to the AMX tile configuration (GCC bug 114098)")
    raise RuntimeError(f"{cxx[-1]} breaks llama.cpp's AMX code and no known flag helps; set CXX to another compiler")


def with_flags(cmake_args: Sequence[str], flags: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """``cmake_args`` with ``flags`` appended to the C and C++ flags that the user has set, there or in C(XX)FLAGS."""
    if not flags:
        return list(cmake_args)
    out = list(cmake_args)
    for name, variable in (("CMAKE_C_FLAGS", "CFLAGS"), ("CMAKE_CXX_FLAGS", "CXXFLAGS")):
        # -D hides the environment's flags from CMake, so they have to come along.
        users = env.get(variable, "")
        for argument in cmake_args:
            key, _, value = argument.partition("=")
            if key.split(":")[0] == f"-D{name}":
                users = value
                out.remove(argument)
        out.append(f"-D{name}={' '.join([*users.split(), *flags])}")
    return out


def toolchain_env(toolchain: Toolchain, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``env`` with CC and CXX set, so that CMake uses what was probed."""
    return {**env, "CC": shlex.join(toolchain.c), "CXX": shlex.join(toolchain.cxx)}
