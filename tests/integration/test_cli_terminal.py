"""What others wrote, printed by the real program: whatever the encoding, into pipes and at a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.cli_server import RUNNING, FakeServer, serving

# All that a terminal obeys: escape sequences (CSI, OSC, DCS) in both forms, a bell, backspaces, a bare carriage return,
# text that is turned round.
HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ \x1bPq\x1b\\ \x1bc \x1b[2J\x9b31m "
    "\x9d0;t\x9c \x08\x08 \x07 \x7f over\rwritten \u202eturned\u202c \u2066apart\u2069 \x00 \x0e \x0f"
)
HARMLESS = "日本 Grüße e\u0301 👨\u200d👩 \u00a0nbsp :smile: [bold]x[/bold] [/x]"
TITLE = f"{HARMLESS} {HOSTILE}"
TEXT = f"{HARMLESS}  trailing  \n\ttab\n\n{HOSTILE}\r\nlast {'x' * 500} \u2028 \n"
MARKUP = "a[/b]"
FOLDER = "日本 [x/] (7B)+"

OWN_ESCAPES = re.compile(r"\r?\x1b\[[0-9;?]*[A-Za-z]")  # colours and the cursor, as rich and readline write them
ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C"},
    "C, not coerced": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "UTF-8": {"PYTHONIOENCODING": "utf-8"},
}


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8", newline="")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thread, an assistant and a model, with the same texts everywhere; and what the doctor finds."""
    data = tmp_path_factory.mktemp("hostile")
    put(data / "threads/jan_1/thread.json", {"id": "jan_1", "title": TITLE, "model_id": HOSTILE, "created": 1e12})
    message = {"id": "m1", "role": "user", "content": TEXT, "created": 1_717_666_232_000}
    put(data / "threads/jan_1/messages.jsonl", message)
    put(data / "threads/bad\x1b[31m日本/thread.json", {})
    put(data / "assistants/ada/assistant.json", {"id": "ada", **dict.fromkeys(("name", "instructions"), TITLE)})
    described = {"description": TITLE, "metadata": {"quantization": TITLE, "tags": [TITLE]}}
    put(data / f"models/{FOLDER}/model.json", {"name": TITLE, "settings": {"x": TITLE}, **described})
    put(data / "models/broken/model.json", {"settings": {"llama_model_path": f"/{TITLE}"}})
    several = data / "models/several"  # what is wrong with it is told by the log, too
    several.mkdir()
    for name in ("a", "\x1b]0;b\x07\u202e"):
        (several / f"{name}.gguf").touch()
    return data


COMMANDS: dict[str, tuple[str, ...]] = {
    "threads list": ("threads", "list"),
    "threads search": ("threads", "search", "trailing"),
    "threads show": ("threads", "show", "jan_1"),
    "no such thread": ("threads", "show", TITLE.replace("\0", "")),
    "assistants list": ("assistants", "list"),
    "assistants show": ("assistants", "show", "ada"),
    "models list": ("models", "list"),
    "models show": ("models", "show", FOLDER),
    "no such model": ("models", "show", TITLE.replace("\0", "")),
    "models set": ("models", "set", FOLDER, f"description={HARMLESS}"),
    "doctor": ("doctor",),
    "no such command": (TITLE.replace("\0", ""),),
}
LISTED = [name for name in COMMANDS if "no such" not in name and name != "doctor"]


def environment(data_dir: Path, more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return kept | {"JANFLASK_DATA_DIR": str(data_dir), "JANFLASK_PORT": "9", "COLUMNS": "200", "TERM": "xterm"} | more


def piped(data_dir: Path, args: Sequence[str], more: Mapping[str, str], stdin: bytes = b"") -> Any:
    command = [sys.executable, "-m", "janflask.cli", *args]
    return subprocess.run(command, env=environment(data_dir, more), input=stdin, capture_output=True, timeout=60)


def at_terminal(data_dir: Path, args: Sequence[str], more: Mapping[str, str]) -> str:
    """All that the terminal was sent, standard error too."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "janflask.cli", *args]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment(data_dir, more)) as process:
        os.close(slave)
        sent = b""
        try:
            while data := os.read(master, 65536):
                sent += data
        except OSError:  # how Linux tells that the other side is closed
            pass
        process.wait(60)
    os.close(master)
    return sent.decode(more.get("PYTHONIOENCODING", "utf-8"), "backslashreplace")


def check_harmless(shown: str) -> None:
    assert "Traceback" not in shown
    rest = OWN_ESCAPES.sub("", shown) if "\x1b[31m" not in shown and "\x1b[2J" not in shown else shown
    obeyed = [sign for sign in rest if unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\t\n\r"]
    turned = [sign for sign in rest if unicodedata.bidirectional(sign) in ("RLO", "LRO", "RLE", "LRE", "PDF", "LRI")]
    assert obeyed + turned == []
    assert "\r" not in rest.replace("\r\n", "")


IN_PIPES = [(name, encoding) for name in COMMANDS for encoding in ("ascii", "latin-1")]
IN_PIPES += [(name, encoding) for name in ("threads list", "threads show") for encoding in ENVIRONMENTS]
AT_TERMINALS = [*((name, "UTF-8") for name in COMMANDS), ("threads show", "latin-1"), ("models show", "ascii")]


@pytest.mark.parametrize(("name", "encoding"), sorted(set(IN_PIPES)))
def test_a_character_that_the_encoding_lacks_is_a_sign(data_dir: Path, name: str, encoding: str) -> None:
    done = piped(data_dir, COMMANDS[name], ENVIRONMENTS[encoding])
    assert b"Traceback" not in done.stderr
    assert done.returncode == (0 if name in LISTED else 2 if name == "no such command" else 1)
    if name in LISTED:
        codec = {"C": "utf-8", "UTF-8": "utf-8", "C, not coerced": "ascii"}.get(encoding, encoding)
        shown = done.stdout.decode(codec)
        assert ("日本" if codec == "utf-8" else "??") in shown
        assert codec == "ascii" or "Grüße" in shown


@pytest.mark.parametrize(("name", "encoding"), AT_TERMINALS)
def test_a_terminal_obeys_nothing_that_is_stored(data_dir: Path, name: str, encoding: str) -> None:
    shown = at_terminal(data_dir, COMMANDS[name], ENVIRONMENTS[encoding])
    check_harmless(shown)
    if name in LISTED and encoding == "UTF-8":
        assert "日本 Grüße" in shown


def test_a_pipe_gets_the_text_as_it_is_stored(data_dir: Path) -> None:
    shown = piped(data_dir, COMMANDS["threads show"], ENVIRONMENTS["UTF-8"]).stdout
    assert shown.startswith(f"{TITLE}\njan_1  ".encode())
    assert shown.endswith(f"\n{TEXT}\n".encode())


@pytest.mark.parametrize(("name", "field"), [("assistants show", TITLE), ("models set", HARMLESS)])
def test_pipes_get_other_texts_as_they_are(data_dir: Path, name: str, field: str) -> None:
    assert field.encode() in piped(data_dir, COMMANDS[name], ENVIRONMENTS["UTF-8"]).stdout


def test_harmless_text_is_shown_as_it_is(data_dir: Path) -> None:
    shown = at_terminal(data_dir, COMMANDS["threads show"], ENVIRONMENTS["UTF-8"])
    assert f"{HARMLESS}  trailing  \r\n\ttab\r\n" in shown


# --- with a server ------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


def hostile(server: FakeServer) -> None:
    texts = dict.fromkeys(("name", "description", "error"), TITLE)
    model = {**RUNNING, **texts, "id": "a[x", "notes": [TITLE], "settings": {"x": TITLE}}
    server.models = dict.fromkeys(("a[x", "a%5Bx", quote(MARKUP, safe="")), model)
    server.answers = [[TEXT[:40], TEXT[40:], FakeServer.DONE]]


@pytest.mark.parametrize(
    "args",
    [
        ("models", "list"),
        ("models", "ps"),
        ("models", "show", MARKUP),
        ("models", "start", MARKUP),
        ("models", "stop", MARKUP),
        ("models", "show", "none [/x]"),
    ],
)
def test_what_a_server_tells_is_not_obeyed(data_dir: Path, server: FakeServer, args: tuple[str, ...]) -> None:
    hostile(server)
    check_harmless(at_terminal(data_dir, [*args, "--url", server.url], ENVIRONMENTS["UTF-8"]))


@pytest.mark.parametrize("encoding", ENVIRONMENTS)
def test_a_piped_answer_is_what_the_model_said(data_dir: Path, server: FakeServer, encoding: str) -> None:
    hostile(server)
    question = "Grüße".encode() if encoding in ("C", "UTF-8") else b"hello"
    done = piped(data_dir, ("chat", MARKUP, "--url", server.url), ENVIRONMENTS[encoding], question)
    assert (done.returncode, done.stderr) == (0, b"")
    codec = {"C": "utf-8", "UTF-8": "utf-8", "C, not coerced": "ascii"}.get(encoding, encoding)
    assert done.stdout == f"{TEXT}\n".encode(codec, "replace")


@pytest.mark.parametrize("encoding", ["UTF-8", "C", "ascii"])
def test_a_question_that_is_no_text_is_told(data_dir: Path, server: FakeServer, encoding: str) -> None:
    done = piped(data_dir, ("chat", "tiny", "--url", server.url), ENVIRONMENTS[encoding], b"caf\xe9\n")
    assert done.returncode == 1
    assert b"the input is no text" in done.stderr


@pytest.mark.parametrize(
    "args", [("threads", "search"), ("threads", "show"), ("models", "show"), ("assistants", "create", "--name")]
)
def test_an_argument_that_is_no_text_is_no_traceback(data_dir: Path, args: tuple[str, ...]) -> None:
    done = piped(data_dir, [*args, os.fsdecode(b"caf\xe9")], ENVIRONMENTS["UTF-8"])
    assert b"Traceback" not in done.stderr
