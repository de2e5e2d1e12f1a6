"""What a model keeps of a conversation, told layer by layer from its header: the numbers of keys, values and states.

Layers are of three kinds: those that attend to everything, those that see a window of it, and recurrent ones, whose
state is as large after a word as after a book. Which is which llama.cpp decides by the architecture where the file does
not say. One that is not known here counts as seeing everything: too much rather than too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from janflask.models.gguf_header import GgufHeader

MAX_LAYERS = 4096


@dataclass(frozen=True, slots=True)
class Pattern:
    """Of so many layers in turn one sees everything: the last, or the first. 0: none does; None: the file has to say.

    ``window``: tokens, where the file has no number of its own; 0: without one no layer has a window.
    """

    period: int | None
    whole_first: bool = False
    window: int = 0

    def has_window(self, layer: int) -> bool:
        """Whether the layer sees a window only, counted from 0."""
        if not self.period:
            return self.period == 0
        return layer % self.period != (0 if self.whole_first else self.period - 1)


# llama.cpp's own (``load_arch_hparams`` of each); "sliding_window_pattern" of a file is put over the period.
WINDOWS = {
    **dict.fromkeys(("dots3note", "gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35"), Pattern(None)),
    **dict.fromkeys(("afmoe", "cohere2", "mellum", "muse-glimmer", "olmo2"), Pattern(4)),
    **dict.fromkeys(("cohere2moe", "laguna", "smallthinker"), Pattern(4, whole_first=True)),
    "exaone-moe": Pattern(4, window=128),
    "gemma2": Pattern(2, window=4096),
    "gemma3": Pattern(6),
    "gemma3n": Pattern(5),
    "gpt-oss": Pattern(2),
    "lfm2": Pattern(0),
    "llama4": Pattern(4, window=8192),  # in chunks of so many
    "plamo3": Pattern(8),
}
# Of so many layers in turn the last one attends, the others are recurrent, unless the file says something else.
INTERVALS = dict.fromkeys(("qwen3next", "qwen35", "qwen35moe", "qwen4exp", "minimax-01"), 4)
BOTH = frozenset({"falcon-h1"})  # all of their layers have both, attention and a recurrent state


class Shape:
    """The sizes in a header that memory depends on. What is missing, or no sensible number, counts as nothing.

    Args:
        header: the model's (first) file's.
        padded: values take as much in each layer as in the one with most of them, which llama.cpp does without flash
            attention.
    """

    def __init__(self, header: GgufHeader, *, padded: bool = True) -> None:
        self._header = header
        self.layers = min(MAX_LAYERS, self._number("block_count"))
        self.width = self._number("embedding_length")
        self.vocabulary = self._number("vocab_size") or sensible(header.pairs.get("tokenizer.ggml.tokens"))
        self._feed_forward = self._by_layer("feed_forward_length")
        self.feed_forward = max(self._feed_forward, default=0)
        heads = self._by_layer("attention.head_count")
        self._kv_heads = self._by_layer("attention.head_count_kv") or heads
        self.heads = max(heads, default=0)
        self._count(padded=padded)

    def _count(self, *, padded: bool) -> None:
        """Numbers of keys and values that a token leaves in each kind of layer, and of a conversation's states."""
        kept = [layer for layer, attends in enumerate(self._attending()) if attends]
        self.window, has_window = self._windows()
        keys = {layer: self._kv_heads[layer] * self._head("key", has_window[layer]) for layer in kept}
        values = {layer: self._kv_heads[layer] * self._head("value", has_window[layer]) for layer in kept}
        if padded:
            values = dict.fromkeys(values, max(values.values(), default=0))
        short = [layer for layer in kept if has_window[layer]]
        self.windowed = sum(keys[layer] for layer in short), sum(values[layer] for layer in short)
        self.whole = sum(keys.values()) - self.windowed[0], sum(values.values()) - self.windowed[1]
        self.state_values = sum(self._recurrent()) * self._state()

    def _head(self, what: str, has_window: bool) -> int:
        """Numbers of a head's keys or values."""
        usual = self._number(f"attention.{what}_length") or (self.width // self.heads if self.heads else 0)
        return (self._number(f"attention.{what}_length_swa") if has_window else 0) or usual

    # --- which layers are of which kind ---------------------------------------------------------------------------

    def _attending(self) -> list[bool]:
        """Of each layer, whether it keeps keys and values. The last ones may use those of others."""
        own = self.layers - self._number("attention.shared_kv_layers")
        is_recurrent = [False] * self.layers if self._has_both or not self._state() else self._recurrent()
        heads = [*self._kv_heads, *[0] * self.layers]
        return [layer < own and heads[layer] > 0 and not is_recurrent[layer] for layer in range(self.layers)]

    def _recurrent(self) -> list[bool]:
        """Of each layer, whether it has a state."""
        told = self._header.arrays.get(f"{self._header.architecture}.attention.recurrent_layers")
        if told:
            return [bool(is_recurrent) for is_recurrent in [*told, *[0] * self.layers][: self.layers]]
        interval = self._number("full_attention_interval") or INTERVALS.get(self._header.architecture or "", 0)
        if interval:
            return [(layer + 1) % interval != 0 for layer in range(self.layers)]
        if self._has_both or not any(self._kv_heads):
            return [True] * self.layers
        if (self._header.architecture or "").startswith("nemotron_h"):  # layers that attend, recurrent ones, others
            others = [*self._feed_forward, *[0] * self.layers]
            return [heads == 0 and other == 0 for heads, other in zip(self._kv_heads, others, strict=False)]
        return [heads == 0 for heads in self._kv_heads]

    @property
    def _has_both(self) -> bool:
        return self._header.architecture in BOTH

    def _windows(self) -> tuple[int, list[bool]]:
        """Tokens of the window, and of each layer whether it sees no more; 0 where none has one."""
        architecture = self._header.architecture
        pattern = WINDOWS.get(architecture or "")
        key = f"{architecture}.attention.sliding_window"
        window = self._number("attention.sliding_window")
        if pattern is not None and key not in self._header.pairs:
            window = pattern.window
        if pattern is None or not window:
            return 0, [False] * self.layers
        listed = self._header.arrays.get(f"{key}_pattern")
        if listed:
            return window, [bool(is_short) for is_short in [*listed, *[0] * self.layers][: self.layers]]
        period = self._number("attention.sliding_window_pattern")
        if period:
            pattern = Pattern(period, pattern.whole_first)
        return window, [pattern.has_window(layer) for layer in range(self.layers)]

    def _state(self) -> int:
        """Numbers that a recurrent layer remembers of a conversation, however long it is."""
        if head := self._number("wkv.head_size"):
            return self.width * (head + max(2, self._number("token_shift_count")))
        if cached := self._number("shortconv.l_cache"):
            return self.width * (cached - 1)
        kernel = self._number("ssm.conv_kernel")
        if head := self._number("kda.head_dim"):
            return self.heads * head * (head + 3 * ((kernel or 4) - 1))
        if self._header.architecture == "minimax-01":
            return self.heads * self._number("attention.key_length") ** 2
        inner, state = self._number("ssm.inner_size"), self._number("ssm.state_size")
        return inner * state + max(0, kernel - 1) * (inner + 2 * self._number("ssm.group_count") * state)

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _number(self, key: str) -> int:
        return sensible(self._header.pairs.get(f"{self._header.architecture}.{key}"))

    def _by_layer(self, key: str) -> list[int]:
        """A number for each layer, whether the file has one for all or a list of them; empty if it has neither."""
        listed = self._header.arrays.get(f"{self._header.architecture}.{key}")
        if listed is not None:
            return [sensible(number) for number in listed[: self.layers]]
        number = self._number(key)
        return [number] * self.layers if number else []


def sensible(value: Any) -> int:
    """A file may claim anything: a number that could not be a size counts as 0."""
    return value if isinstance(value, int) and 0 <= value < 1 << 24 else 0
