"""What the names of a split model's files tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from janflask.models.split_names import part_paths, parts_of, split_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m-00001-of-00002.gguf", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]),
        ("a/b-c-00002-of-00002.GGUF", ["a/b-c-00001-of-00002.GGUF", "a/b-c-00002-of-00002.GGUF"]),
        ("-00001-of-00001.gguf", ["-00001-of-00001.gguf"]),
        ("a\nb-00001-of-00001.gguf", ["a\nb-00001-of-00001.gguf"]),
    ],
)
def test_all_parts_by_the_name_of_one(name: str, expected: list[str]) -> None:
    assert parts_of(name) == expected


ARABIC = "m-\N{ARABIC-INDIC DIGIT ONE}0000-of-00002.gguf"


@pytest.mark.parametrize("name", ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00002.bin", "m-00001-OF-00002.gguf", ARABIC])
def test_a_whole_file_is_its_only_part(name: str) -> None:
    assert split_name(name) is None
    assert parts_of(name) == [name]


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-00000.gguf"])
def test_numbers_that_cannot_be_make_a_name_like_any_other(name: str) -> None:
    assert split_name(name) is not None
    assert parts_of(name) == [name]


def test_the_parts_lie_beside_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "a-00001-of-00009.gguf"
    assert part_paths(folder / "m-00002-of-00002.gguf") == [folder / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
