"""The special tokens of a model's vocabulary and layout, and where a text could become one of them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from janflask.inference.apart import remembered_apart
from janflask.inference.requests import Segment
from janflask.inference.words.search import Search
from janflask.ipc.messages.engine import Specials

SHORT = 64  # characters of a text whose places are remembered: the names and words of schemas come again and again
MARKER = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)  # noqa: RUF001 - DeepSeek's
NAMED = re.compile(r"""['"](\w+)['"]|\.(\w+)""")  # what a template looks for by its name: it compares these with words
# What a template does to texts: a literal is taken out, or another put in its place.
REPLACED = re.compile(r"""replace\(\s*(['"])(.+?)\1\s*,\s*(['"])(.*?)\3""")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a text would have to be cut. ``inside``: in one that stands in it, behind its first character.

    ``edges``: in one that may come about with what the layout writes before or behind the text, or takes out of it.
    ``is_part``: all of the text, without its blanks, may be in the middle of one, and is no name that the layout knows.
    """

    inside: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()
    is_part: bool = False

    def __bool__(self) -> bool:
        return bool(self.inside or self.edges or self.is_part)


class SpecialWords:
    """The texts that are special tokens in a prompt of one layout, which comes from ``source``."""

    def __init__(self, texts: Iterable[str], source: str = "") -> None:
        """Texts of one character cannot be cut, and are left out; no vocabulary has such a control token."""
        known = [text for text in texts if len(text) > 1]
        self._exact = Search(known)
        self._folded = Search(map(_folded, known))
        self._replaced = tuple(dict.fromkeys((old, new) for _, old, _, new in REPLACED.findall(source)))
        self._named = frozenset(name for pair in NAMED.findall(source) for name in pair)
        self._remembered = remembered_apart(1 << 12)(self._places)

    def places(self, text: str, *, again: bool = False) -> Places:
        """Of a text from outside; capitals are of no account, since templates change them.

        One that comes ``again`` is remembered, if it is short.
        """
        return self._remembered(text) if again and len(text) < SHORT else self._places(text)

    def _places(self, text: str) -> Places:
        low = _folded(text)
        inside = tuple(dict.fromkeys(start + 1 for start, _ in self._folded.spans(low)))
        core = low.strip()
        lead = len(low) - len(low.lstrip())
        edges = {place for shift, part in {(0, low), (lead, core)} for place in self._edges(part, shift)}
        if self._is_made(text):
            edges |= {place for old, _ in self._replaced for place in _all(text, old) if place}
        is_part = bool(core) and text not in self._named and self._folded.is_within(core)
        return Places(inside, tuple(sorted(edges)), is_part)

    def _edges(self, part: str, shift: int) -> Iterator[int]:
        if not part:
            return
        if self._folded.ends(part):
            yield shift
        yield from (shift + place + 1 for place in self._folded.begun(part))

    def _is_made(self, text: str) -> bool:
        """Whether one may come about by what the template takes out of ``text``."""
        made = text
        for old, new in self._replaced:
            made = made.replace(old, new)
        return made != text and any(self._folded.spans(_folded(made)))

    def around(self, prompt: str, parts: Iterable[str]) -> set[str]:
        """Those of ``parts`` that are, without blanks, in the middle of a special token that ``prompt`` has."""
        found = {_folded(prompt[start:end])[1:-1] for start, end in self._exact.spans(prompt)}
        return {part for part in parts if any(_folded(part.strip()) in middle for middle in found)}

    def cuts(self, prompt: str, places: Iterable[int]) -> list[int]:
        """Those of ``places``, in order, that are in the middle of a special token's text."""
        wanted = sorted(set(places))
        found: set[int] = set()
        for start, end in self._exact.spans(prompt) if wanted else ():
            found.update(wanted[bisect_right(wanted, start) : bisect_left(wanted, end)])
        return sorted(found)

    def segments(self, prompt: str, cuts: Sequence[int]) -> list[Segment]:
        """The prompt in parts; those with a cut in them are plain, as what stands around them is."""
        segments: list[Segment] = []
        plain = end = 0
        left = iter((*cuts, len(prompt) + 1))
        cut = next(left)
        for start, stop in self._exact.spans(prompt):
            while cut <= start:
                cut = next(left)
            if start < end or cut < stop:
                continue
            if start > plain:
                segments.append(Segment(prompt[plain:start], special=False))
            segments.append(Segment(prompt[start:stop], special=True))
            plain = end = stop
        if plain < len(prompt):
            segments.append(Segment(prompt[plain:], special=False))
        return segments


@lru_cache(16)
def special_words(specials: Specials, source: str, markers: str) -> SpecialWords:
    """Those of a vocabulary: its control tokens, and what else is a marker, by its look or in the layout.

    ``source`` is the layout's program, ``markers`` what else is known to be a marker in it. Other tokens that a file
    has as its own (runs of blanks, ``<b>``) are ordinary text.
    """
    layout = f"{source}\n{markers}"
    markers_of_it = (
        text for text in specials.user_defined if MARKER.fullmatch(text) or (_looks_so(text) and text in layout)
    )
    return SpecialWords((*specials.control, *markers_of_it), source)


def _looks_so(text: str) -> bool:
    return not text[:1].isalnum() and not text[:1].isspace() and any(map(str.isalpha, text))


def _folded(text: str) -> str:
    """In small letters, each character in its place."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def _all(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


NO_SPECIALS = Specials(())
NO_WORDS = SpecialWords(())
