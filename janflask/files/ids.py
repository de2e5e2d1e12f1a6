"""Ids: what may be one, and new ones that sort by the time of their making.

A new id is a prefix and 26 characters of Crockford's base 32 (the layout of https://github.com/ulid/spec, in lower
case, since some file systems take two names that differ only by case for one): 48 bits of milliseconds, 80 random bits.
Within one process they ascend strictly.

An answer that is asked for by its id alone (a response, a stored chat) has its thread's id in its own, so that it is
found without looking through all threads: behind the 26 characters come the thread's, or ``.`` and the whole id of a
thread that has another form.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Container

THREAD, MESSAGE, ASSISTANT, FILE, RUN = "thread_", "msg_", "asst_", "file-", "run_"
RESPONSE, CHAT = "resp_", "chatcmpl-"  # runs that have their thread's id in theirs
CONVERSATION = "conv_"  # another name of a thread, whose own begins with THREAD

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_TAIL = rf"[0-7][{_ALPHABET}]{{{_LENGTH - 1}}}"
_OWN = re.compile(rf"[a-z]+[_-]({_TAIL})")
_ANSWER = re.compile(rf"(?:{RESPONSE}|{CHAT})({_TAIL})(?:({_TAIL})|\.([A-Za-z0-9].*))")
MAX_ANSWERED = 128 - len(CHAT) - _LENGTH - 1  # characters of a thread's id in an answer's
_RANDOM_BITS = 80
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(5 * (_LENGTH - 2), -1, -10)

ROUTES = frozenset({"import", "export", "runs"})  # of the API, where a thread's id would be
# Names that mean something else to a file system somewhere.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
RESERVED = ROUTES | _DEVICES

_lock = threading.Lock()
_last = 0


def is_id(text: str) -> bool:
    """Whether ``text`` may be an id from outside, and so the name of a folder."""
    return _ID.fullmatch(text) is not None


def is_reserved(text: str) -> bool:
    """Whether a new object must not be called so, although it would be an id."""
    return text.split(".", 1)[0].lower() in RESERVED or text.endswith(".")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def new_id(prefix: str, at_ms: int | None = None) -> str:
    """A new id; ``at_ms`` is its time, now by default."""
    global _last
    value = (now_ms() if at_ms is None else at_ms) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    if at_ms is None:
        with _lock:
            if value <= _last:  # a clock that stands still or goes back must not break the order
                value = _last + 1 + secrets.randbits(32)
            _last = value
    return prefix + "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def time_of(text: str) -> int | None:
    """When ``new_id`` made ``text``, in milliseconds; None for an id from elsewhere."""
    match = _OWN.fullmatch(text) or _ANSWER.fullmatch(text)
    if match is None:
        return None
    value = 0
    for character in match[1]:
        value = value << 5 | _DIGITS[character]
    return value >> _RANDOM_BITS


def new_answer_id(prefix: str, thread_id: str) -> str:
    """A new id for an answer in that thread, whose own is ``MAX_ANSWERED`` characters long at most."""
    tail = thread_id.removeprefix(THREAD)
    own = thread_id.startswith(THREAD) and re.fullmatch(_TAIL, tail)
    return new_id(prefix) + (tail if own else f".{thread_id}")


def thread_of(answer_id: str) -> str | None:
    """The id of an answer's thread; None if ``answer_id`` is not by ``new_answer_id``."""
    match = _ANSWER.fullmatch(answer_id) if is_id(answer_id) else None
    if match is None:
        return None
    return THREAD + match[2] if match[2] else str(match[3])


def tail_of(run_id: str) -> str:
    """What follows the prefix of a run's own id, without its thread's: for the ids of what belongs to it."""
    match = _ANSWER.fullmatch(run_id)
    return match[1] if match is not None else run_id.removeprefix(RUN)


def thread_id(name: str) -> str:
    """The id of a thread that may be named as a conversation."""
    return THREAD + name.removeprefix(CONVERSATION) if name.startswith(CONVERSATION) else name


def conversation_id(thread_id: str) -> str:
    """A thread's name as a conversation; one that was made elsewhere has no other than its id."""
    return CONVERSATION + thread_id.removeprefix(THREAD) if thread_id.startswith(THREAD) else thread_id


def safe_name(text: str, fallback: str = "file") -> str:
    """A file name out of a stranger's: no folder, nothing but letters, digits and ``._-``, at most 100 characters."""
    name = re.split(r"[/\\]", text)[-1]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".-_")
    stem, dot, suffix = name.rpartition(".")
    if dot and len(suffix) <= 16:
        name = f"{stem[: 99 - len(suffix)]}.{suffix}"
    return name[:100].rstrip(".") or fallback


def free_name(name: str, taken: Container[str]) -> str:
    """``name``, with a number before its suffix if there is one already."""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{dot}{suffix}"
    return name
