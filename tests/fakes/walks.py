"""Walks through a grammar: texts that it allows, drawn letter by letter, as a model that knows nothing would."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from janflask.engine.constraint import limits
from janflask.engine.marker_rules import MarkerRules
from janflask.ipc.messages.constraint import Constraint

END = "<END>"
CLOSERS = frozenset(b"\"'}])>;")


class _Words:
    """A token for each byte, one for the end, and control tokens."""

    bos_token_id = None

    def __init__(self, controls: Sequence[str]) -> None:
        special = [END, *controls]
        self.tokens = [bytes([number]) for number in range(256)] + [b"\xff" + text.encode() for text in special]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.eos_token_id = 256

    def __call__(self, text: Any) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


class Vocabulary:
    """``controls`` are control tokens; ``ends`` are those of them that end an answer, too."""

    def __init__(self, controls: Sequence[str] = (), ends: Sequence[str] = ()) -> None:
        words = _Words(controls)
        self.controls = {text: 257 + number for number, text in enumerate(controls)}
        self.ends = frozenset({256, *(self.controls[text] for text in ends)})
        make: Any = TokenizerWrapper
        self.table = LLTokenizer(make(words), eos_token=sorted(self.ends))
        self.markers = MarkerRules.of_table(self.table)
        self.size = len(words.tokens)

    def matcher(self, constraint: Constraint) -> LLMatcher:
        """Raises ValueError for a constraint that cannot be used."""
        grammar = LLMatcher.grammar_from_lark(self.markers.filled(constraint))
        matcher = LLMatcher(self.table, grammar, log_level=0, limits=limits())
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def tokens(self, text: str) -> list[int]:
        """A text's bytes, and control tokens where they are."""
        out: list[int] = []
        while text:
            found = next((word for word in self.controls if text.startswith(word)), None)
            out += list(text[0].encode()) if found is None else [self.controls[found]]
            text = text[1:] if found is None else text[len(found) :]
        return out

    def takes(self, constraint: Constraint, text: str) -> str | None:
        """Why it does not take a text as a whole answer; None: it does."""
        matcher, tokens = self.matcher(constraint), self.tokens(text)
        taken = matcher.try_consume_tokens(tokens)
        if taken < len(tokens) or not matcher.is_accepting():
            return f"{self.text(tokens[:taken])!r} is taken, {self.text(tokens[taken:])!r} is not"
        return None

    def text(self, tokens: Sequence[int]) -> str:
        """What they are."""
        return self.table.decode_str(list(tokens))

    def walk(self, constraint: Constraint, draw: random.Random, plans: Sequence[str], most: int = 3000) -> str | None:
        """A text that the constraint allows; None if it is not whole after ``most`` tokens.

        ``plans`` are what is written now and then, as far as it is allowed: of single letters a marker rarely comes.
        """
        matcher, written = self.matcher(constraint), list[int]()
        planned: list[int] = []
        while len(written) < most:
            allowed = self._allowed(matcher)
            tired = len(written) > most // 8
            if 256 in allowed and (len(allowed) == 1 or draw.random() < (0.9 if tired else 0.3)):
                return self.text(written)
            if not planned and draw.random() < (0.5 if tired else 0.08):
                plan = draw.choice(plans)  # in letters, too, where it is a control token
                planned = self.tokens(plan) if draw.random() < 0.7 else list(plan.encode())
            token = planned.pop(0) if planned else -1
            if token not in allowed:
                planned = []
                token = self._choose(allowed, draw, tired)
            if not matcher.consume_token(token):
                raise ValueError(matcher.get_error())
            written.append(token)
        return None

    def _allowed(self, matcher: LLMatcher) -> list[int]:
        mask = np.zeros((self.size + 31) // 32, np.uint32)
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: self.size]).tolist()

    def _choose(self, allowed: Sequence[int], draw: random.Random, tired: bool) -> int:
        rest = [token for token in allowed if token not in self.ends]
        closing = [token for token in rest if token in CLOSERS or token > 256]
        return draw.choice(closing if closing and draw.random() < (0.9 if tired else 0.3) else rest)
