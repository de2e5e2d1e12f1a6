"""What a KV state depends on: under another fingerprint it is of no use.

Everything counts that is not known to be neutral, so that a setting which is forgotten here costs a computation and
not a wrong answer: all settings but those of ``NEUTRAL``, the context as it was made (with the knobs that were chosen),
the weights' and adapters' files by their content, and llama.cpp as it was built for this machine. A start need not
wait for the hashes: they are made beside it (``begin``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import llama_cpp
from llama_cpp import llama_cpp as lib

from janflask.engine.context import ContextOptions
from janflask.engine.devices import gpus
from janflask.engine.model import LLAMA_VERSION
from janflask.models.engine_settings import EngineSettings
from janflask.models.split_names import part_paths

# What changes no number of a state, or counts as what became of it: an automatic choice and the same by hand are one.
NEUTRAL = frozenset(
    {
        *("queue_limit", "start_timeout", "prefix_cache", "drafts", "embedding", "mmproj"),
        *("mmap", "mlock"),  # where the weights lie
        "slice_size",  # the governor varies it from step to step
        "lora",  # its content counts, not where it lies
        # in ContextOptions, as decided
        *("ctx_len", "n_parallel", "kv_cells", "cpu_threads", "flash_attn", "kv_unified"),
        *("cache_type_k", "cache_type_v", "rope_freq_base", "rope_freq_scale", "rope_scaling"),
    }
)
ROOM = frozenset({"ctx_len", "kv_cells"})  # of ContextOptions
WHOLE = 32 << 20  # bytes of a file up to which all of it is looked at
BLOCK = 64 << 10  # bytes; of a larger file so many at its start and end, and at places in between
BLOCKS = 256
LIBRARIES = frozenset({".so", ".dylib", ".dll"})


def fingerprint(path: Path, settings: EngineSettings, options: ContextOptions, *, by_room: bool = True) -> str:
    """Of the library, the model's files as they are now, and the settings that numbers depend on. Raises OSError.

    ``by_room`` false: the model's numbers do not depend on how long a conversation may be (``Model.follows_room``), so
    that a start that was granted another length finds its states.
    """
    facts = {
        "library": _library(),
        "files": [(file.stat().st_mtime_ns, _content(file)) for file in _files(path, settings)],
        "context": {name: value for name, value in asdict(options).items() if by_room or name not in ROOM},
        "settings": {name: value for name, value in asdict(settings).items() if name not in NEUTRAL},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def begin(path: Path, settings: EngineSettings) -> None:
    """Has the files looked at by a thread of its own, for the one ``fingerprint`` of them that is to come."""
    pool = ThreadPoolExecutor(1, "hash")
    with suppress(OSError):  # ``fingerprint`` will tell of it
        _begun.update((file, pool.submit(content, file)) for file in (*_files(path, settings), *_build()))
    pool.shutdown(wait=False)  # it ends with its work


_begun: dict[Path, Future[str]] = {}


def _files(path: Path, settings: EngineSettings) -> Sequence[Path]:
    return [*part_paths(path), *([Path(settings.lora)] if settings.lora else [])]


def _content(file: Path) -> str:
    begun = _begun.pop(file, None)
    return content(file) if begun is None else begun.result()


def content(file: Path) -> str:
    """A file's size, and a hash of its bytes: all of them, or of a large one 256 blocks from one end to the other.

    A model's header is at the start, and no two trainings leave the same numbers in every 256th part of it.
    """
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size <= WHOLE:
            digest.update(stream.read())
        else:
            for number in range(BLOCKS):
                stream.seek(number * (size - BLOCK) // (BLOCKS - 1))
                digest.update(stream.read(BLOCK))
    return f"{size} {digest.hexdigest()}"


def _library() -> list[str]:
    """llama.cpp: its version, the build, what it uses of this machine's processors."""
    return [
        LLAMA_VERSION,
        lib.llama_print_system_info().decode("utf-8", "replace"),
        *(device["description"] for device in gpus(lib._lib)),
        *map(_content, _build()),
    ]


def _build() -> Sequence[Path]:
    """The files of the library."""
    return sorted(file for file in (Path(llama_cpp.__file__).parent / "lib").iterdir() if file.suffix in LIBRARIES)
