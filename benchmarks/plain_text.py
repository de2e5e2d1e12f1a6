"""Prompts of plain English: passages of this project's own documentation, none given twice."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from benchmarks.harness import ROOT

LENGTH = 330  # characters of a passage: about 80 tokens


def passages(seed: int) -> Iterator[str]:
    """Pieces of prose of about ``LENGTH`` characters, whole words; the same order for the same seed."""
    found = [piece for file in sorted((ROOT / "docs").glob("*.md")) for piece in _pieces(file.read_text())]
    random.Random(seed).shuffle(found)
    return iter(found)


def _pieces(text: str) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)  # neither code
    prose = (line for line in text.splitlines() if not re.match(r"\s*(\||#)", line))  # nor tables nor headings
    words = " ".join(prose).split()
    piece: list[str] = []
    for word in words:
        piece.append(word)
        if sum(len(part) + 1 for part in piece) >= LENGTH:
            yield " ".join(piece)
            piece = []
