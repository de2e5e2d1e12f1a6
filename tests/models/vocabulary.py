"""A vocabulary alone, of a GGUF with or without weights: what ``engine.model.Model`` knows of it."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from janflask.engine.ends import own_types
from janflask.engine.model import address, specials
from janflask_ext import backend as hot


class Vocabulary:
    """Never freed: a test process loads a few."""

    def __init__(self, path: Path) -> None:
        params = lib.llama_model_default_params()
        params.vocab_only = True
        model = lib.llama_model_load_from_file(str(path).encode(), params)
        assert model, path
        self.pointer: Any = lib.llama_model_get_vocab(model)
        self.address = address(self.pointer)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self.pointer)
        self.pieces = hot.pieces(self.address, self.n_vocab)
        self.types = own_types(hot.attributes(self.address, self.n_vocab))
        self.specials = specials(self.pointer, self.types, ())

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> array[int]:
        """See Model."""
        return hot.tokenize(self.address, text.encode(), add_special, parse_special)

    def piece(self, token: int) -> bytes:
        """See Model."""
        return self.pieces[token]
