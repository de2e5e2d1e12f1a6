"""What memory one start asks for, at each number of conversations that would do."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from janflask.errors import ModelLoadError
from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_header import GgufError, GgufHeader, read_header
from janflask.models.memory_estimate import (
    BATCH_CPU,
    BATCH_GPU,
    DEFAULT_PARALLEL,
    Estimate,
    default_ctx_len,
    embeds_alone,
    engine_estimate,
    longer_ctx_lens,
)
from janflask.models.split_names import part_paths
from janflask.supervisor.machine_memory import Amount

log = logging.getLogger(__name__)

LONG_SHARE = 0.5  # of the whole budget that a model gets for a longer context: another finds as much beside it
LEAST_CTX_LEN = 512  # nobody is advised to have less
KV_ON_DEMAND = sys.platform == "linux"  # a KV cache in RAM takes memory where it is used only: ``engine/pages.py``


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A model and how it is to run. Without a header only its files' size is known."""

    settings: EngineSettings
    header: GgufHeader | None
    file_bytes: int
    on_gpu: bool = False  # this machine has a GPU that llama.cpp can use
    state_bytes: int = 0  # that an engine may keep beside its slots, as a setting says

    @property
    def ctx_len(self) -> int:
        return self.settings.ctx_len or default_ctx_len(None if self.header is None else self.header.context_length)

    @property
    def longer(self) -> tuple[int, ...]:
        """Contexts longer than ``ctx_len`` that would be better, the best first.

        None where they cost what they promise: on a GPU, and where the pages of a KV cache are not given out on demand.
        """
        settings = self.settings
        if self.header is None or settings.ctx_len is not None or settings.kv_cells is not None or settings.embedding:
            return ()
        if not KV_ON_DEMAND or self._embeds_alone or self._gpu_share():
            return ()
        return longer_ctx_lens(self.header.context_length)

    def longer_within(self, limits: Amount) -> list[int]:
        """Of ``longer`` those that can be promised to the full number of conversations within a share of the budget.

        The share is of all that there is, not of what is left: what a model gets does not change from start to start.
        """
        share = Amount(int(LONG_SHARE * limits.ram), int(LONG_SHARE * limits.vram))
        most = self.parallel[0]
        return [ctx_len for ctx_len in self.longer if self.amount(self.wanted(most, ctx_len)).fits(share)]

    @property
    def parallel(self) -> tuple[int, ...]:
        """Numbers of conversations at once that would do, the best first."""
        if self.settings.n_parallel is not None:
            return (self.settings.n_parallel,)
        if self.settings.kv_cells is not None:
            return (DEFAULT_PARALLEL,)
        if self._embeds_alone:
            return (1,)  # its inputs share one conversation's memory
        return tuple(range(DEFAULT_PARALLEL, 0, -1))

    @property
    def states(self) -> int:
        """Bytes of KV states beside the slots that it would like to have; it does with less, and with none."""
        return self.state_bytes if self.settings.prefix_cache and not self._embeds_alone else 0

    def wanted(self, n_parallel: int, ctx_len: int | None = None) -> Estimate:
        """As ``estimate``, and what it keeps beside its slots."""
        return replace(self.estimate(n_parallel, ctx_len), states=self.states)

    def estimate(self, n_parallel: int, ctx_len: int | None = None) -> Estimate:
        """What it cannot do without; with ``ctx_len`` in place of the settings' own."""
        if self.header is None:
            return Estimate(self.file_bytes, 0, 0)
        return engine_estimate(
            self.header,
            self.file_bytes,
            self.settings,
            ctx_len=ctx_len or self.ctx_len,
            n_parallel=n_parallel,
            batch=max(BATCH_GPU if self._gpu_share() else BATCH_CPU, self.settings.slice_size or 0),
        )

    def granted(self, n_parallel: int, ctx_len: int | None = None) -> EngineSettings:
        """The settings with what was decided; ``ctx_len``: one of ``longer``.

        How many inputs an engine takes at once that only embeds is its own.
        """
        if self._embeds_alone:
            return self.settings
        return replace(self.settings, n_parallel=n_parallel, ctx_len=ctx_len or self.settings.ctx_len)

    def amount(self, needed: Estimate) -> Amount:
        """Where the estimate's memory is taken: layers on a GPU keep their weights and their KV there."""
        share = self._gpu_share()
        vram = int(share * (needed.weights + needed.kv)) + needed.compute if share else 0
        return Amount(needed.total - vram, vram)

    def smaller_ctx_len(self, room: Amount) -> int | None:
        """The largest power of two below ``ctx_len`` with which it would fit into ``room``."""
        if self.settings.kv_cells is not None or self.header is None:
            return None
        size = 1 << max(0, self.ctx_len - 1).bit_length() - 1
        while size >= LEAST_CTX_LEN:
            if self.amount(self.estimate(self.parallel[-1], size)).fits(room):
                return size
            size //= 2
        return None

    @property
    def _embeds_alone(self) -> bool:
        return self.header is not None and embeds_alone(self.header, self.settings)

    def _gpu_share(self) -> float:
        if not self.on_gpu or self.settings.ngl == 0:
            return 0.0
        layers = None if self.header is None else self.header.pairs.get(f"{self.header.architecture}.block_count")
        if self.settings.ngl < 0 or not isinstance(layers, int):
            return 1.0
        return min(1.0, self.settings.ngl / (layers + 1))  # the output counts as a layer


class Demands:
    """Makes demands; a header is read again only when its file has changed. Thread-safe.

    ``on_gpu``, ``state_bytes``: see ``Demand``.
    """

    def __init__(self, on_gpu: bool, state_bytes: int = 0) -> None:
        self._on_gpu = on_gpu
        self._state_bytes = state_bytes
        self._lock = threading.Lock()
        self._headers: dict[Path, tuple[tuple[int, ...], GgufHeader | None]] = {}

    def of(self, path: Path, settings: EngineSettings) -> Demand:
        """Raises ModelLoadError naming a file that is not there."""
        files = part_paths(path)
        names = [f"{file.name} (part {i} of {len(files)})" for i, file in enumerate(files, 1)]
        if len(files) == 1:
            names = [path.name]
        if settings.lora is not None:
            files.append(Path(settings.lora))
            names.append(f"the adapter (settings.lora) {Path(settings.lora).name}")
        size = sum(_size(file, name) for file, name in zip(files, names, strict=True))
        return Demand(
            settings=settings,
            header=self._header(path),
            file_bytes=size,
            on_gpu=self._on_gpu,
            state_bytes=self._state_bytes,
        )

    def _header(self, path: Path) -> GgufHeader | None:
        """None for a file that is no whole GGUF: its engine will say what is wrong with it."""
        try:
            stat = path.stat()
            signature = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            with self._lock:
                known = self._headers.get(path)
            if known is not None and known[0] == signature:
                return known[1]
            header = _read(path)
        except OSError as error:
            log.warning("the header of %s cannot be read: %s", path.name, error)
            return None
        with self._lock:
            self._headers[path] = (signature, header)
        return header


def _read(path: Path) -> GgufHeader | None:
    try:
        return read_header(path)
    except GgufError as error:
        log.warning("%s is not understood, so only its size is counted: %s", path.name, error)
        return None


def _size(file: Path, name: str) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError as error:
        raise ModelLoadError(f"{name} is not there any more: fetch it again", param="model") from error
    except OSError as error:
        raise ModelLoadError(f"{name} cannot be read: {error.strerror}", param="model") from error
