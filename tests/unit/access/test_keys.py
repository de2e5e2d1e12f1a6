"""Keys and their file: who is let in, and what a file that is wrong, changed or gone means."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from janflask.access.key_file import NAME, KeyFile
from janflask.access.keys import Key, Keyring, Limits, id_in, new_key
from janflask.access.scopes import EVERY, USUAL, Scope, Scopes, missing
from janflask.errors import ConflictError, KeysUnreadableError, StoreBusyError
from janflask.files.disk import opened_root
from janflask.files.locks import try_lock


def added(file: KeyFile, name: str = "a", scopes: Scopes = USUAL, limits: Limits | None = None) -> tuple[Key, str]:
    key, text = new_key(name, scopes, limits or Limits(), 1_700_000_000)
    file.change(lambda keyring: keyring.with_key(key))
    return key, text


def test_a_key_is_found_by_all_of_its_text_alone() -> None:
    key, text = new_key("a", USUAL, Limits(), 1)
    other, other_text = new_key("b", USUAL, Limits(), 1)
    keyring = Keyring().with_key(key).with_key(other)
    assert keyring.holder(text) is key
    assert keyring.holder(other_text) is other
    secret, other_secret = text.split("_", 2)[2], other_text.split("_", 2)[2]
    wrong = ["", "jf", key.id, f"jf_{key.id}", f"jf_{key.id}_", text[:-1], text + "x", text.upper(), secret, f" {text}"]
    for each in [*wrong, f"jf_{key.id}_{other_secret}", key.digest.hex(), "\xe4", "\udcff", "jf_" + "a" * 12 + "_x"]:
        assert keyring.holder(each) is None, each


def test_keys_differ_and_bear_their_form() -> None:
    texts = [new_key("a", USUAL, Limits(), 1)[1] for _ in range(200)]
    assert len({text[3:15] for text in texts}) == len({text[16:] for text in texts}) == 200
    assert all(len(text) == 3 + 12 + 1 + 43 and text[16:].isalnum() for text in texts)
    assert len(set("".join(text[16:] for text in texts))) == 62


def test_an_unknown_id_costs_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = new_key("a", USUAL, Limits(), 1)
    compared: list[int] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append(len(first) + len(second))
        return first == second

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keyring = Keyring().with_key(key)
    for each in (text, f"jf_{key.id}_x", "jf_aaaaaaaaaaaa_x", "nonsense"):
        keyring.holder(each)
    assert compared == [64] * 4


def test_the_id_is_told_from_the_text() -> None:
    key, text = new_key("a", USUAL, Limits(), 1)
    assert id_in(text) == id_in(key.id) == id_in(f"jf_{key.id}") == key.id


def test_admin_has_the_others() -> None:
    admin, chat = frozenset({Scope.ADMIN}), frozenset({Scope.INFERENCE})
    assert missing(EVERY, admin) == frozenset()
    assert missing(EVERY, chat) == {Scope.ADMIN, Scope.CONVERSATIONS}
    assert missing(frozenset(), frozenset()) == frozenset()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_without_a_file_nothing_is_asked_for(tmp_path: Path) -> None:
    assert KeyFile(tmp_path / "secrets").current() == Keyring()
    assert not (tmp_path / "secrets").exists()


def test_what_is_written_is_read_and_no_secret_in_it(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secrets")
    limits = Limits(requests_per_minute=60, streams=2)
    key, text = added(file, "Büro", frozenset({Scope.ADMIN}), limits)
    assert KeyFile(tmp_path / "secrets").current() == Keyring(True, {key.id: key})
    assert text[16:] not in file.path.read_text()
    assert text not in repr(key)
    assert (file.path.stat().st_mode & 0o777, file.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in file.path.parent.iterdir()] == [NAME]


def test_a_change_elsewhere_is_seen_at_the_next_question(tmp_path: Path) -> None:
    mine, other = KeyFile(tmp_path), KeyFile(tmp_path)
    assert not mine.current().required
    key, text = added(other)
    assert mine.current().holder(text) == key
    other.change(lambda keyring: keyring.without(key.id))
    assert mine.current() == Keyring(True, {}), "the last key that goes opens nothing"
    other.change(lambda _: Keyring())
    assert not mine.current().required


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(tmp_path)
    added(file)
    first = file.current()
    monkeypatch.setattr("janflask.files.secrets_file.read_private", lambda *_: 1 / 0)
    assert file.current() is first


def test_all_changes_at_once_are_in_it(tmp_path: Path) -> None:
    files = [KeyFile(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        keys = [key.id for key, _ in pool.map(lambda number: added(files[number % 4]), range(40))]
    assert sorted(KeyFile(tmp_path).current().keys) == sorted(keys)


def entry(**changes: Any) -> dict[str, Any]:
    plain = {"id": "a" * 12, "name": "a", "sha256": "0" * 64, "scopes": ["admin"], "created": 1, "limits": {}}
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def content(*keys: Any, **changes: Any) -> bytes:
    return json.dumps({"version": 1, "required": True, "keys": list(keys), **changes}).encode()


WRONG: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"version": 1, "required": true, "keys": [], "\xff": 1}',
    "deep": b"[" * 100_000,
    "cut": content(entry())[:-5],
    "a list": b"[]",
    "no keys": b'{"version": 1, "required": true}',
    "no required": b'{"version": 1, "keys": []}',
    "null": b"null",
    "a later version": content(version=2),
    "required is a word": content(required="false"),
    "keys that are not asked for": content(entry(), required=False),
    "an unknown field": content(open=True),
    "the same id twice": content(entry(), entry(name="b")),
    "no scope": content(entry(scopes=[])),
    "an unknown scope": content(entry(scopes=["root"])),
    "no digest": content(entry(sha256=None)),
    "a short digest": content(entry(sha256="00")),
    "a long digest": content(entry(sha256="0" * 64 + "\n")),
    "an id of another form": content(entry(id="A" * 12)),
    "a limit of nothing": content(entry(limits={"streams": 0})),
    "an unknown limit": content(entry(limits={"stream": 1})),
    "a limit that is no number": content(entry(limits={"streams": True})),
    "too large": content(entry()) + b" " * (8 << 20),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_lets_nobody_in_and_is_not_written_over(tmp_path: Path, name: str) -> None:
    file = KeyFile(tmp_path)
    file.path.write_bytes(content(entry()))
    file.path.chmod(0o600)
    assert file.current().required, "the pattern of these is right"
    file.path.write_bytes(WRONG[name])
    for _ in range(2):
        with pytest.raises(KeysUnreadableError, match="nobody gets in") as caught:
            file.current()
        assert str(file.path) in caught.value.message
    with pytest.raises(KeysUnreadableError):
        added(file)
    assert file.path.read_bytes() == WRONG[name]


def as_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILERS: list[Callable[[Path], Any]] = [
    as_link,
    as_folder,
    Path.unlink,
    lambda path: path.chmod(0o640),
    lambda path: path.chmod(0o604),
    lambda path: path.chmod(0o602),
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_file_that_is_not_its_users_alone_or_gone_lets_nobody_in(tmp_path: Path, spoil: Any) -> None:
    file = KeyFile(tmp_path)
    added(file)
    file.current()
    spoil(file.path)
    with pytest.raises(KeysUnreadableError):
        file.current()


def test_a_file_that_asked_for_none_may_go(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.change(lambda _: Keyring())
    file.current()
    file.path.unlink()
    assert file.current() == Keyring()


def test_a_change_waits_for_another_but_not_for_ever(tmp_path: Path) -> None:
    with opened_root(tmp_path) as other:
        assert try_lock(other)
        with pytest.raises(StoreBusyError):
            added(KeyFile(tmp_path, lock_timeout=0.01))


def test_root_leaves_no_file_that_the_servers_user_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.files.secrets_file.os.geteuid", lambda: 0)
    real = os.fstat

    def of_another_user(fd: int) -> os.stat_result:
        about = real(fd)
        return os.stat_result([*about[:4], 4711, *about[5:]])

    monkeypatch.setattr("janflask.files.secrets_file.os.fstat", of_another_user)
    with pytest.raises(ConflictError, match="4711"):
        added(KeyFile(tmp_path))
    assert not (tmp_path / NAME).exists()
