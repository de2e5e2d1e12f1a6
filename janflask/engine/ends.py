"""Which tokens end an answer, and which only have a name that llama.cpp takes for an end.

llama.cpp goes by names (``special_eog_ids`` in its ``llama-vocab.cpp``): a token called ``</s>``, ``<|im_end|>``,
``<end_of_turn>``, ``[EOS]``, ``<reponame>`` and so on is an end, whatever the file says of it. But ``</s>`` of Gemma 3
and of Qwen2.5 is HTML's closing tag of struck-out text, which the model writes like any other word. So a token of that
list ends an answer only if one of these is so:

1. The file declares it, as its end of sequence, of turn or of message (``tokenizer.ggml.eos_token_id``, ``eot_``,
   ``eom_``), or as the mark behind which no middle of a text goes on (``fim_pad_``, ``fim_rep_``, ``fim_sep_``).
2. The file gives it the type of a control token, which is never text.
3. The layout of conversations contains it: files that were converted badly have their ends of turn as ordinary tokens
   (``<end_of_turn>`` of many a Gemma 2), and what ends a turn there ends an answer. ChatML is the layout of a file
   that brings none.

Any other token is text. llama.cpp makes each token of that list a control token, too; its own type is still to be seen,
since the flag is added to the type's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# llama_token_attr
UNKNOWN, UNUSED, NORMAL, CONTROL, USER_DEFINED, BYTE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5

DECLARED = tuple(f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"))
CHATML_END = "<|im_end|>"


def own_types(attributes: Sequence[int]) -> list[int]:
    """The attributes without the control flag where llama.cpp added it because of a name."""
    own = {  # they are few, and tokens are many
        attribute: attribute & ~CONTROL if attribute & (UNKNOWN | NORMAL | USER_DEFINED | BYTE) else attribute
        for attribute in set(attributes)
    }
    return [own[attribute] for attribute in attributes]


def ends(
    named: Iterable[int],
    types: Sequence[int],
    pieces: Sequence[bytes],
    metadata: Mapping[str, str],
    layouts: Sequence[str],
) -> frozenset[int]:
    """The tokens of ``named`` that end an answer.

    Args:
        named: what llama.cpp takes for ends.
        types: each token's attributes, see ``own_types``.
        pieces: each token's bytes.
        metadata: the file's pairs, as text.
        layouts: how conversations are laid out: the file's template, the user's, or both.
    """
    declared = {metadata[key] for key in DECLARED if key in metadata}
    layout = "\n".join(layouts) if layouts else CHATML_END
    return frozenset(
        token
        for token in named
        if str(token) in declared or types[token] & CONTROL or pieces[token].decode("utf-8", "replace") in layout
    )
