"""The files of a split model, told by their names: ``NAME-00001-of-00003.gguf`` and those that follow it.

llama.cpp names them so, and finds the others by the first. All of this is words: whether the files are there is open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SPLIT = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})((?i:\.gguf))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SplitName:
    """What the name of a part tells."""

    stem: str  # all before the number; of a path or URL with its folders
    number: int
    count: int
    extension: str

    def suffix(self, number: int) -> str:
        """What a part's name has between the stem and the extension."""
        return f"-{number:05d}-of-{self.count:05d}"


def split_name(name: str) -> SplitName | None:
    """What a name, path or URL tells of a part; None when it is of a whole. The numbers may be ones that cannot be."""
    split = _SPLIT.fullmatch(name)
    return None if split is None else SplitName(split[1], int(split[2]), int(split[3]), split[4])


def parts_of(name: str) -> list[str]:
    """The names of all files of the model that one is of, in order: itself alone when it is whole.

    A name with numbers that cannot be, such as part 3 of 2, is one like any other.
    """
    split = split_name(name)
    if split is None or not 1 <= split.number <= split.count:
        return [name]
    return [f"{split.stem}{split.suffix(number)}{split.extension}" for number in range(1, split.count + 1)]


def part_paths(path: Path) -> list[Path]:
    """The same for a file on this machine."""
    return [path.with_name(name) for name in parts_of(path.name)]
