"""Seals and signatures: what comes back is what left, for the same use, or it is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from janflask.container import Services
from janflask.errors import InvalidEncryptedContentError, RequestTooLargeError
from janflask.services import seals
from janflask.services.seals import MAX_SEALED, NAME, PREFIX, Seals
from janflask.settings import Settings

TEXTS = ["", "a", "Zürich \U0001f600\0\n", "half \ud83d a character", "long " * 50_000]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_text_comes_back_in_another_process_too(tmp_path: Path, text: str) -> None:
    one, other = Seals(tmp_path), Seals(tmp_path)
    sealed, signature = one.sealed("summary", text), one.signature("thought", text)
    assert other.opened("summary", sealed) == text
    assert other.is_signed("thought", text, signature)
    assert sealed.startswith(PREFIX)
    assert sealed.isascii()
    assert not set(sealed) & set("+/= \n")


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    with_seals = Services.of(Settings(data_dir=tmp_path)).seals
    assert not (tmp_path / "secrets").exists()
    with_seals.signature("thought", "hm")
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == [NAME]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_another_kind_another_secret_and_a_signature_are_refused(tmp_path: Path) -> None:
    ours, others = Seals(tmp_path / "a"), Seals(tmp_path / "b")
    sealed = ours.sealed("summary", "words")
    for opener, kind, what in (
        (ours, "thought", sealed),
        (others, "summary", sealed),
        (ours, "summary", ours.signature("summary", "words")),
    ):
        with pytest.raises(InvalidEncryptedContentError, match=f"no {kind} that this server sealed") as caught:
            opener.opened(kind, what, param="input[0].encrypted_content")
        assert caught.value.param == "input[0].encrypted_content"
        assert caught.value.code == "invalid_encrypted_content"
        assert caught.value.status == 400


def test_whatever_is_changed_is_refused(tmp_path: Path) -> None:
    ours, chance = Seals(tmp_path), random.Random(7)
    sealed = ours.sealed("summary", "some words that are sealed")
    changed = ["", PREFIX, "jf2." + sealed[4:], sealed[4:], sealed + "=", sealed + "A", sealed + "\n", " " + sealed]
    changed += [sealed[:length] for length in range(len(sealed))]
    changed += ["ä" + sealed[1:], sealed[:9] + "\ud800" + sealed[9:], PREFIX + sealed]
    for _ in range(300):
        place, letter = chance.randrange(len(sealed)), chance.choice("ABCDEFxyz0189-_")
        changed.append(sealed[:place] + letter + sealed[place + 1 :])
    for what in set(changed) - {sealed}:
        with pytest.raises(InvalidEncryptedContentError):
            ours.opened("summary", what)


def test_too_much_is_refused_on_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidEncryptedContentError):
        Seals(tmp_path).opened("summary", PREFIX + "A" * MAX_SEALED)
    monkeypatch.setattr(seals, "MAX_TEXT", 10)
    Seals(tmp_path).sealed("summary", "0123456789")
    with pytest.raises(RequestTooLargeError, match="11 bytes"):
        Seals(tmp_path).sealed("summary", "012345678é")


def test_a_signature_is_of_one_text_and_one_kind(tmp_path: Path) -> None:
    ours = Seals(tmp_path)
    signature = ours.signature("thought", "hm")
    for kind, text, given in (
        ("thought", "hm ", signature),
        ("summary", "hm", signature),
        ("thought", "hm", ""),
        ("thought", "hm", signature[:-1]),
        ("thought", "hm", signature + "\ud800é"),
        ("thought", "hm", Seals(tmp_path / "other").signature("thought", "hm")),
        ("thought", "hm", ours.sealed("thought", "hm")),
    ):
        assert not ours.is_signed(kind, text, given)
