"""A model's weights and vocabulary in llama.cpp, loaded through llama-cpp-python's bindings."""

from __future__ import annotations

import ctypes
import logging
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as lib

from janflask.engine.ends import CONTROL, UNKNOWN, USER_DEFINED, ends, own_types
from janflask.engine.library_log import LibraryLog
from janflask.engine.pages import KvPages, lazily
from janflask.errors import InvalidRequestError, ModelLoadError
from janflask.ipc.messages.engine import Specials
from janflask.models.default_layout import CHATML
from janflask.models.engine_settings import EngineSettings
from janflask.models.gguf_files import check_magic, check_parts
from janflask.models.sampling import SamplingParams
from janflask_ext import backend as hot
from janflask_ext import dots, rows
from janflask_ext.sampling import Sampler, process_dry_breakers
from janflask_ext.stream import TextStream, Vocab

log = logging.getLogger(__name__)

KNOWN_MARKERS = 64  # of which it is remembered whether they are hidden: each request of a model has the same few

LLAMA_VERSION = f"llama-cpp-python {llama_cpp.__version__}"


class Model:
    """Weights and vocabulary of one GGUF, with an adapter's if there is one.

    ``prompt_template`` is a layout of conversations in place of the file's own. Raises ModelLoadError with llama.cpp's
    own reason when a file cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        settings: EngineSettings,
        library_log: LibraryLog,
        progress: Callable[[float], None],
        prompt_template: str | None = None,
    ) -> None:
        self._log = library_log
        library_log.clear()
        check_parts(path)
        params = lib.llama_model_default_params()
        params.n_gpu_layers = settings.ngl
        # Of copies in another layout four rows have other bits than one.
        params.use_extra_bufts = settings.use_extra_bufts and not settings.reproducible
        params.load_mode = _load_mode(settings)
        self._progress = lib.llama_progress_callback(_goes_on(progress))  # kept alive: llama.cpp holds its address
        params.progress_callback = self._progress
        lib.llama_backend_init()
        if settings.use_extra_bufts:  # the supervisor turns it off where an engine died of a signal
            dots.install()
        _alike(settings)
        self.on_gpu = bool(lib.llama_supports_gpu_offload()) and settings.ngl != 0
        pointer = lib.llama_model_load_from_file(str(path).encode(), params)
        if not pointer:
            raise ModelLoadError(f"{path.name} cannot be loaded: {library_log.reason()}")
        self.pointer: Any = pointer
        self.vocab_pointer: Any = lib.llama_model_get_vocab(pointer)
        self.vocab_address = address(self.vocab_pointer)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self.vocab_pointer)
        self.metadata = self._metadata()
        self.pieces = hot.pieces(self.vocab_address, self.n_vocab)
        self.token_types = own_types(hot.attributes(self.vocab_address, self.n_vocab))
        self.vocab = Vocab(self.pieces, self.token_types)
        self._is_hidden = lru_cache(KNOWN_MARKERS)(self._find_hidden)
        self.eog = self._ends(self.token_types, prompt_template)
        self.ctx_train: int = lib.llama_model_n_ctx_train(pointer)
        self.notes = _notes(settings, library_log)
        self.lora_scale = settings.lora_scale
        try:
            self.lora = self._load_lora(Path(settings.lora)) if settings.lora else None
        except ModelLoadError:
            lib.llama_model_free(pointer)
            raise

    def _ends(self, types: list[int], prompt_template: str | None) -> frozenset[int]:
        """The tokens that end an answer."""
        named = hot.eog_tokens(self.vocab_address, self.n_vocab)
        layouts = [layout for layout in (prompt_template, self.chat_template) if layout]
        found = ends(named, types, self.pieces, self.metadata, layouts)
        for token in named - found:
            log.info("token %d (%r) is text here, though its name is one of an end", token, self.pieces[token])
        return found

    def _load_lora(self, path: Path) -> Any:
        """An adapter; to be loaded before any context is made."""
        check_magic(path, "the adapter (settings.lora)")
        pointer = lib.llama_adapter_lora_init(self.pointer, str(path).encode())
        if not pointer:
            raise ModelLoadError(f"the adapter (settings.lora) {path.name} cannot be loaded: {self._log.reason()}")
        return pointer

    def make_context(self, params: Any, what: str) -> tuple[Any, KvPages]:
        """A ``llama_context`` with the model's adapter, and where its KV memory lies, untouched until it is used.

        Raises ModelLoadError; ``what`` names it in the message.
        """
        if self.on_gpu:
            pointer, pages = lib.llama_init_from_model(self.pointer, params), KvPages()
        else:
            pointer, pages = lazily(lambda: lib.llama_init_from_model(self.pointer, params), params.n_seq_max)
        if not pointer:
            raise ModelLoadError(
                f"llama.cpp could not make a context for {what} ({self._log.reason()}): lower ctx_len or n_parallel"
            )
        if self.lora is not None:
            adapters, scales = (lib.llama_adapter_lora_p_ctypes * 1)(self.lora), (ctypes.c_float * 1)(self.lora_scale)
            if lib.llama_set_adapters_lora(pointer, adapters, 1, scales) != 0:
                lib.llama_free(pointer)
                raise ModelLoadError("llama.cpp did not take the adapter (settings.lora)")
        return pointer, pages

    def _metadata(self) -> dict[str, str]:
        """The file's key/value pairs, as llama.cpp prints them; long ones (token lists, templates) left out."""
        buffer = ctypes.create_string_buffer(512)
        out: dict[str, str] = {}
        for i in range(lib.llama_model_meta_count(self.pointer)):
            lib.llama_model_meta_key_by_index(self.pointer, i, buffer, 512)
            key = buffer.value.decode("utf-8", "replace")
            if lib.llama_model_meta_val_str_by_index(self.pointer, i, buffer, 512) < 512:
                out[key] = buffer.value.decode("utf-8", "replace")
        return out

    @property
    def architecture(self) -> str:
        return self.metadata.get("general.architecture", "")

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.pointer, buffer, 256)
        return buffer.value.decode("utf-8", "replace")

    @property
    def size_bytes(self) -> int:
        return int(lib.llama_model_size(self.pointer))

    @property
    def n_params(self) -> int:
        return int(lib.llama_model_n_params(self.pointer))

    @property
    def embedding_width(self) -> int:
        """Numbers of a vector that it makes of a text."""
        return int(lib.llama_model_n_embd_out(self.pointer))

    @property
    def chat_template(self) -> str | None:
        template = lib.llama_model_chat_template(self.pointer, None)
        return template.decode("utf-8", "replace") if template else None

    @property
    def knows_chatml(self) -> bool:
        """Whether the words of ChatML are tokens of the vocabulary; without them they are letters like any others."""
        return all(len(self.tokenize(word, add_special=False, parse_special=True)) == 1 for word in CHATML)

    @property
    def add_bos(self) -> bool:
        return bool(lib.llama_vocab_get_add_bos(self.vocab_pointer))

    def special_text(self, kind: str) -> str:
        """The text of ``bos`` or ``eos``; empty when the model has none."""
        token: int = getattr(lib, f"llama_vocab_{kind}")(self.vocab_pointer)
        return self.pieces[token].decode("utf-8", "replace") if 0 <= token < self.n_vocab else ""

    @cached_property
    def specials(self) -> Specials:
        """The texts that the tokenizer makes a special token of wherever they stand."""
        return specials(self.vocab_pointer, self.token_types, self.eog)

    @property
    def follows_room(self) -> bool:
        """Numbers may depend on how long a context was made: llama.cpp has other RoPE factors for longer ones."""
        return any(key.endswith(".rope.scaling.original_context_length") for key in self.metadata)

    @property
    def can_trim(self) -> bool:
        """The memory can forget a sequence's end and copy its beginning: plain attention over the whole context."""
        return not (
            lib.llama_model_is_recurrent(self.pointer)
            or lib.llama_model_is_hybrid(self.pointer)
            or lib.llama_model_n_swa(self.pointer) > 0
        )

    def first_needed(self, length: int) -> int:
        """The first position that a memory must hold of ``length`` tokens, so that the next one is computed right."""
        if lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer):
            return length - 1
        window = lib.llama_model_n_swa(self.pointer)
        return max(0, length + 1 - window) if window else 0

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]:
        """Token ids of a text. Raises InvalidRequestError for a text that is no valid Unicode or too long."""
        try:
            return hot.tokenize(self.vocab_address, text.encode("utf-8"), add_special, parse_special)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"the prompt holds a lone surrogate at character {error.start}") from error
        except ValueError as error:
            raise InvalidRequestError(f"the prompt cannot be tokenized: {error}") from error

    def piece(self, token: int) -> bytes:
        """A token's bytes, a special one's too. Raises IndexError when there is no such token."""
        return self.pieces[token]

    def make_sampler(self, params: SamplingParams, seed: int, prompt: array[int], n_ctx: int) -> Sampler:
        """A sampler that has seen the prompt. Raises InvalidRequestError for parameters out of range."""
        try:
            sampler = Sampler(
                self.n_vocab,
                temperature=params.temperature,
                dynatemp_range=params.dynatemp_range,
                dynatemp_exponent=params.dynatemp_exponent,
                top_k=params.top_k,
                top_p=params.top_p,
                min_p=params.min_p,
                typical_p=params.typical_p,
                top_n_sigma=params.top_n_sigma,
                xtc_probability=params.xtc_probability,
                xtc_threshold=params.xtc_threshold,
                repeat_penalty=params.repeat_penalty,
                repeat_last_n=params.repeat_last_n,
                frequency_penalty=params.frequency_penalty,
                presence_penalty=params.presence_penalty,
                dry_multiplier=params.dry_multiplier,
                dry_base=params.dry_base,
                dry_allowed_length=params.dry_allowed_length,
                dry_penalty_last_n=params.dry_penalty_last_n,
                dry_breakers=self._dry_breakers(params),
                mirostat=params.mirostat,
                mirostat_tau=params.mirostat_tau,
                mirostat_eta=params.mirostat_eta,
                seed=seed,
                logit_bias=params.logit_bias,
                banned=tuple(self.eog) if params.ignore_eos else (),
                top_logprobs=params.top_logprobs,
                n_ctx=n_ctx,
            )
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        sampler.prime(prompt)
        return sampler

    def _dry_breakers(self, params: SamplingParams) -> Any:
        if params.dry_multiplier == 0:
            return ()

        def tokenize(text: bytes) -> Sequence[int]:
            return hot.tokenize(self.vocab_address, text, False, False)

        return process_dry_breakers(params.dry_sequence_breakers, self.pieces, tokenize)

    def make_text(self, stop: tuple[str, ...], markers: tuple[str, ...] = ()) -> TextStream:
        """Control tokens make text where one of ``markers`` is made of them: whoever looks for it has to see it."""
        return TextStream(self.vocab, stop, render_special=any(map(self._is_hidden, markers)))

    def _find_hidden(self, marker: str) -> bool:
        return any(map(self.vocab.hides, self.tokenize(marker, add_special=False, parse_special=True)))


def specials(vocab: Any, types: Sequence[int], ends: Collection[int]) -> Specials:
    """The special tokens of a vocabulary whose tokens have ``types``, and of which ``ends`` end an answer.

    Their texts are the file's own, which is what the tokenizer looks for.
    """

    def texts(tokens: Iterable[int]) -> tuple[str, ...]:
        return tuple(lib.llama_vocab_get_text(vocab, token).decode("utf-8", "replace") for token in tokens)

    control = {token for token, kind in enumerate(types) if kind & (CONTROL | UNKNOWN)} | set(ends)
    user_defined = {token for token, kind in enumerate(types) if kind & USER_DEFINED} - control
    return Specials(texts(sorted(control)), texts(sorted(user_defined)))


def _goes_on(progress: Callable[[float], None]) -> Callable[[float, Any], bool]:
    """llama.cpp's progress callback: true means that loading goes on."""

    def callback(fraction: float, _user_data: Any) -> bool:
        progress(fraction)
        return True

    return callback


def address(pointer: Any) -> int:
    """Where a pointer of the bindings points, for the extension; 0 for none."""
    return int(ctypes.cast(pointer, ctypes.c_void_p).value or 0)


def _alike(settings: EngineSettings) -> None:
    """Sets how rows are computed that are not alone, for all of the process: nothing is computed yet."""
    wanted = rows.FEW_ALIKE if settings.use_extra_bufts else rows.AS_IT_IS
    if settings.reproducible:
        wanted = rows.ALL_ALIKE
    if rows.set_mode(wanted) != wanted:
        log.info("rows are computed as ggml computes them: %s", rows.install())


def _load_mode(settings: EngineSettings) -> int:
    modes = {
        (True, False): lib.LLAMA_LOAD_MODE_AUTO,  # mmap, unless a device cannot
        (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
        (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
        (False, False): lib.LLAMA_LOAD_MODE_NONE,
    }
    return int(modes[settings.mmap, settings.mlock])


def _notes(settings: EngineSettings, library_log: LibraryLog) -> tuple[str, ...]:
    """What was asked for and is not so."""
    notes = []
    if settings.mlock and any("mlock" in line for line in library_log.warnings):
        notes.append(
            "mlock: the weights could not be locked into memory and may be swapped out; raise the limit of locked "
            "memory (ulimit -l)"
        )
    if settings.mmproj:
        missing = "" if Path(settings.mmproj).is_file() else ", and the file is not there"
        notes.append(f"mmproj: {Path(settings.mmproj).name} is not used, images are not served yet{missing}")
    return tuple(notes)
