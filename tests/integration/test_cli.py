"""The commands against a real HTTP server: what is asked, printed, and the exit codes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from janflask.cli import register
from janflask.cli.chat import chat
from janflask.cli.models import models
from tests.integration.cli_server import RUNNING, STOPPED, FakeServer, serving
from tests.integration.waiting import free_port

cli_models = importlib.import_module("janflask.cli.models")  # the module; the package has the command of that name
ROOT = Path(__file__).resolve().parents[2]
DONE = FakeServer.DONE


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def nowhere() -> str:
    """A URL where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_models, "SAMPLE", 0.001)


def run_models(*args: str) -> Result:
    return CliRunner().invoke(models, args)


def run_chat(server: FakeServer, *args: str, text: str) -> Result:
    return CliRunner().invoke(chat, ["tiny", "--url", server.url, *args], input=text)


def columns(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


# --- models -----------------------------------------------------------------------------------------------------


def test_list_shows_every_model(server: FakeServer) -> None:
    result = run_models("list", "--url", server.url)
    assert result.exit_code == 0
    head, tiny, other = result.stdout.splitlines()
    assert columns(head) == ["MODEL", "STATE", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT", "CREATED"]
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_700_000_000))
    assert columns(tiny) == ["tiny", "running", "98.4 MB", "Q4_1", "135M", "8192", created]
    assert columns(other) == ["other", "downloaded", "1.2 kB", "-", "-", "-", "-"]


def test_list_tells_how_far_a_download_is(server: FakeServer) -> None:
    download = {"stage": "downloading", "percent": 41.7}
    server.models = {"new": {"id": "new", "status": "downloading", "download": download}}
    assert columns(run_models("list", "--url", server.url).stdout.splitlines()[1])[:2] == ["new", "downloading 42 %"]


def test_list_json_is_what_the_server_said(server: FakeServer) -> None:
    result = run_models("list", "--url", server.url, "--json")
    assert json.loads(result.stdout) == [RUNNING, STOPPED]


def test_the_url_may_end_in_v1(server: FakeServer) -> None:
    assert run_models("list", "--url", server.url + "/v1/").exit_code == 0
    assert server.requests == [("GET", "/v1/models", None)]


def test_the_settings_say_where_the_server_is(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANFLASK_PORT", server.url.rsplit(":", 1)[1])
    assert run_models("list", "--json").exit_code == 0
    assert len(server.requests) == 1


def test_show_tells_how_a_model_runs(server: FakeServer) -> None:
    result = run_models("show", "tiny", "--url", server.url)
    assert result.exit_code == 0
    shown = dict(columns(line) for line in result.stdout.splitlines())
    assert shown["flash attention"] == "off"
    assert shown["KV layout"] == "unified"
    assert shown["slice"] == "64 tokens"
    assert shown["threads"] == "2"
    assert shown["knobs"] == "measured: flash on 9.4 ms, flash off 13.0 ms"
    assert shown["note"] == "runs without repacked weights"
    assert (shown["context"], shown["trained for"]) == ("2048 tokens", "8192 tokens")
    assert shown["format"] == "llama 135M Q4_1"
    assert shown["loaded in"] == "1.2 s"
    assert (shown["pid"], shown["restarts"]) == ("4711", "1")
    assert shown["tokens"] == "90 generated, 80 of prompts, 70 from the prefix cache"
    assert shown["busy"] == "3/8 slots, 1 waiting"
    assert shown["settings"] == "ctx_len=2048"


def test_show_of_a_stopped_model_leaves_out_what_is_not_known(server: FakeServer) -> None:
    result = run_models("show", "other", "--url", server.url)
    assert [columns(line)[0] for line in result.stdout.splitlines()] == ["model", "state", "size"]


def test_show_of_an_unknown_model_fails_with_the_servers_words(server: FakeServer) -> None:
    result = run_models("show", "../etc", "--url", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: there is no /v1/models/..%2Fetc\n"


def test_ps_shows_only_what_runs_with_its_load(server: FakeServer) -> None:
    result = run_models("ps", "--url", server.url)
    head, tiny = result.stdout.splitlines()
    assert columns(head) == [
        *("MODEL", "STATE", "PID", "SLOTS", "WAITING", "KV", "TOKENS", "TOKENS/S", "MEMORY", "USED", "IDLE", "UPTIME"),
    ]
    shown = ["tiny", "running", "4711", "3/8", "1", "512/16384", "90", "0.0", "393 MiB", "143 MiB", "-"]
    assert columns(tiny)[:-1] == shown
    assert server.requests.count(("GET", "/v1/models/tiny", None)) == 2, "its tokens are counted twice"


def test_ps_of_an_idle_model_asks_once_and_tells_since_when(server: FakeServer) -> None:
    server.models["tiny"] = {**RUNNING, "stats": {**RUNNING["stats"], "busy": 0, "idle_seconds": 75.3}}
    tiny = columns(run_models("ps", "--url", server.url).stdout.splitlines()[1])
    assert (tiny[3], tiny[7], tiny[10]) == ("0/8", "0.0", "1m15s")
    assert server.requests.count(("GET", "/v1/models/tiny", None)) == 1


FAR = {
    **STOPPED,
    "id": "far",
    "status": "running",
    "upstream": {
        "kind": "vllm",
        "model": "org/Far",
        "max_concurrent": 64,
        "servers": [
            {"base_url": "http://a/v1", "reachable": True, "since": None, "error": None, "under_way": 3},
            {"base_url": "http://b/v1", "reachable": False, "since": 1, "error": "refused", "under_way": 0},
        ],
    },
}


def test_ps_shows_the_servers_of_models_that_run_elsewhere(server: FakeServer) -> None:
    server.models["far"] = FAR
    server.models["off"] = {**FAR, "id": "off", "status": "failed"}
    lines = [line for line in run_models("ps", "--url", server.url).stdout.splitlines() if line]
    assert [columns(line)[0] for line in lines] == ["MODEL", "tiny", "MODEL", "far", "far", "off", "off"]
    assert columns(lines[2]) == ["MODEL", "UPSTREAM", "STATE", "FOR", "REQUESTS", "ERROR"]
    assert columns(lines[3]) == ["far", "http://a/v1", "reachable", "-", "3/64", "-"]
    far = columns(lines[4])
    assert [*far[:3], *far[4:]] == ["far", "http://b/v1", "not reachable", "0/64", "refused"]
    assert ("GET", "/v1/models/far", None) not in server.requests
    del server.models["tiny"]
    lines = run_models("ps", "--url", server.url).stdout.splitlines()
    assert [columns(line)[0] for line in lines] == ["MODEL", "far", "far", "off", "off"]


def test_bench_of_a_model_that_runs_elsewhere_is_refused(server: FakeServer) -> None:
    server.models["far"] = FAR
    result = run_models("bench", "far", "--url", server.url)
    assert result.exit_code == 1
    assert "far is run by another server (http://a/v1, http://b/v1): measure it there" in result.stderr
    assert [path for method, path, _ in server.requests if method != "GET"] == []


def test_ps_with_nothing_running(server: FakeServer) -> None:
    del server.models["tiny"]
    assert run_models("ps", "--url", server.url).stdout == "No model is running.\n"
    assert json.loads(run_models("ps", "--url", server.url, "--json").stdout) == []


def test_start_sends_the_settings_and_tells_the_outcome(server: FakeServer) -> None:
    overrides = ["--set", "ctx_len=4096", "--set", "flash_attn=true", "--set", "cache_type_k=q8_0"]
    result = run_models("start", "tiny", "--url", server.url, *overrides)
    assert (result.exit_code, result.stdout) == (0, "tiny is running.\n")
    body = {"ctx_len": 4096, "flash_attn": True, "cache_type_k": "q8_0"}
    assert server.requests == [("PUT", "/v1/models/tiny/start", body)]


def test_start_that_fails_says_why(server: FakeServer) -> None:
    server.start_error = (500, {"error": {"message": "tiny.gguf is truncated", "code": "model_load_failed"}})
    result = run_models("start", "tiny", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: tiny.gguf is truncated\n")


def test_an_error_that_is_not_openai_shaped_tells_its_status(server: FakeServer) -> None:
    server.start_error = (502, {"oops": 1})
    assert "502 Bad Gateway" in run_models("start", "tiny", "--url", server.url).stderr


def test_stop(server: FakeServer) -> None:
    assert run_models("stop", "tiny", "--url", server.url).stdout == "tiny is stopped.\n"
    assert json.loads(run_models("stop", "tiny", "--url", server.url, "--json").stdout)["state"] == "stopped"


@pytest.mark.parametrize("args", [["start", "tiny", "--set", "ctx_len"], ["list", "--url", "ftp://x"], ["list", "x"]])
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    assert run_models(*args).exit_code == 2


def test_a_bad_setting_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANFLASK_PORT", "http")
    result = run_models("list")
    assert result.exit_code == 2
    assert "JANFLASK_PORT='http'" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(["ps"], ["list"], ["show", "tiny"], ["start", "tiny"], ["stop", "tiny"]),
        *(["rm", "tiny"], ["set", "tiny", "ctx_len=1"], ["bench", "tiny"]),
    ],
)
def test_without_a_server_the_message_says_how_to_start_one(command: list[str], nowhere: str) -> None:
    result = run_models(*command, "--url", nowhere)
    assert result.exit_code == 1
    assert f"no server answers at {nowhere} (Connection refused)" in result.stderr
    assert "janflask serve" in result.stderr


def test_a_server_that_is_no_janflask_is_told_apart(server: FakeServer) -> None:
    server.models["odd"] = [1]  # type: ignore[assignment]
    result = run_models("show", "odd", "--url", server.url)
    assert (result.exit_code, "not like janflask" in result.stderr) == (1, True)


# --- changing and deleting -------------------------------------------------------------------------------------


def test_set_sends_what_changes(server: FakeServer) -> None:
    given = ["ctx_len=4096", "cache_type_k=q8_0", "lora=", "parameters.temperature=0.5", "name=12", "metadata.tags=[1]"]
    result = run_models("set", "other", *given, "--url", server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    body = {
        "settings": {"ctx_len": 4096, "cache_type_k": "q8_0", "lora": None},
        "parameters": {"temperature": 0.5},
        "name": "12",
        "metadata": {"tags": [1]},
    }
    assert server.requests == [("PATCH", "/v1/models/other", body)]
    assert result.stdout.splitlines() == [
        'name is "12".',
        "settings.ctx_len is 4096.",
        'settings.cache_type_k is "q8_0".',
        "settings.lora is not set.",
        "parameters.temperature is 0.5.",
        "metadata.tags is [1].",
    ]


def test_set_tells_that_a_running_model_keeps_its_settings(server: FakeServer) -> None:
    assert "until it is started again" in run_models("set", "tiny", "ctx_len=1", "--url", server.url).stderr
    assert run_models("set", "tiny", "parameters.top_k=1", "--url", server.url).stderr == ""


@pytest.mark.parametrize("item", ["ctx_len", "=1", "settings.=1", "other.thing=1", "name="])
def test_set_refuses_what_is_no_assignment(server: FakeServer, item: str) -> None:
    assert run_models("set", "tiny", item, "--url", server.url).exit_code == 2
    assert server.requests == []


def test_set_that_the_server_refuses(server: FakeServer) -> None:
    server.refusals["PATCH /v1/models/tiny"] = (400, {"error": {"message": "there is no setting 'x'"}})
    result = run_models("set", "tiny", "x=1", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: there is no setting 'x'\n")


def test_rm_deletes_every_one_and_tells_of_those_that_it_could_not(server: FakeServer) -> None:
    error = {"error": {"message": "tiny is running", "code": "model_in_use"}}
    server.refusals["DELETE /v1/models/tiny"] = (409, error)
    result = run_models("rm", "tiny", "other", "--url", server.url)
    assert (result.exit_code, result.stdout) == (1, "other is deleted.\n")
    assert result.stderr == "Error: tiny is running\n"
    assert list(server.models) == ["tiny"]


@pytest.mark.parametrize(("answer", "left"), [("y", ["tiny"]), ("n", ["tiny", "other"])])
def test_rm_asks_at_a_terminal(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(cli_models, "_at_a_terminal", lambda: True)
    result = CliRunner().invoke(models, ["rm", "other", "--url", server.url], input=f"{answer}\n")
    assert "Delete other (1.2 kB) for good?" in result.stderr
    assert list(server.models) == left
    assert result.exit_code == (0 if answer == "y" else 1)


def test_rm_does_not_ask_with_yes(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_models, "_at_a_terminal", lambda: True)
    assert run_models("rm", "-y", "other", "--url", server.url).exit_code == 0


# --- bench ------------------------------------------------------------------------------------------------------


def test_bench_measures_as_llama_bench_does(server: FakeServer) -> None:
    result = run_models("bench", "tiny", "-r", "2", "--url", server.url)
    assert result.exit_code == 0
    head, pp, tg = result.stdout.splitlines()
    assert columns(head) == ["MODEL", "SIZE", "PARAMETERS", "THREADS", "FLASH", "TEST", "TOKENS/S"]
    assert columns(pp) == ["tiny", "98.4 MB", "135M", "2", "off", "pp512", "51200.00 ± 0.00"]
    assert columns(tg)[-2:] == ["tg128", "125.00 ± 0.00"]
    assert "works on 3 other requests" in result.stderr
    asked = [body for _, path, body in server.requests if path == "/v1/completions"]
    assert [(len(body["prompt"]), body["max_tokens"]) for body in asked] == [(512, 1)] * 3 + [(1, 128)] * 3
    assert all(body["ignore_eos"] and body["cache_prompt"] is False for body in asked)
    assert asked[0]["prompt"] != asked[1]["prompt"]
    assert ("PUT", "/v1/models/tiny/stop", {}) not in server.requests


def test_bench_starts_a_model_and_stops_it_again(server: FakeServer) -> None:
    result = run_models("bench", "other", "-p", "4", "-n", "0", "-r", "1", "--json", "--url", server.url)
    (measured,) = json.loads(result.stdout)
    assert (measured["test"], measured["avg_ts"], measured["stddev_ts"]) == ("pp4", 400.0, 0.0)
    assert measured["samples_ts"] == [400.0]
    puts = [path for method, path, _ in server.requests if method == "PUT"]
    assert puts == ["/v1/models/other/start", "/v1/models/other/stop"]


def test_bench_stops_what_it_started_when_it_fails(server: FakeServer) -> None:
    server.timings = {"prompt_n": 3, "prompt_ms": 1.0}
    result = run_models("bench", "other", "-p", "4", "-n", "0", "--url", server.url)
    assert result.exit_code == 1
    assert "pp4 was not measured: the server worked on 3 tokens" in result.stderr
    assert server.requests[-1][1] == "/v1/models/other/stop"


@pytest.mark.parametrize("args", [["-p", "0", "-n", "0"], ["-n", "1"], ["-p", "2048"]])
def test_bench_of_what_cannot_be_measured_is_wrong_usage(server: FakeServer, args: list[str]) -> None:
    assert run_models("bench", "tiny", *args, "--url", server.url).exit_code == 2
    assert [path for _, path, _ in server.requests if path == "/v1/completions"] == []


# --- models, from the disk --------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one model and one that is broken; no server runs."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.gguf").write_bytes(b"GGUF" + bytes(996))
    (folder / "model.json").write_text(json.dumps({"id": "mine", "name": "Mine", "settings": {"ctx_len": 512}}))
    broken = tmp_path / "models" / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{")
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JANFLASK_PORT", nowhere.rsplit(":", 1)[1])
    return tmp_path / "models"


def test_list_falls_back_to_the_disk(on_disk: Path) -> None:
    result = run_models("list")
    assert result.exit_code == 0
    assert str(on_disk) in result.stderr
    _, broken, mine = result.stdout.splitlines()
    assert columns(mine)[:3] == ["mine", "downloaded", "1.0 kB"]
    assert columns(broken)[0] == "broken"
    assert "not_downloaded: " in broken


def test_list_json_from_the_disk_keeps_standard_output_clean(on_disk: Path) -> None:
    assert [model["id"] for model in json.loads(run_models("list", "--json").stdout)] == ["broken", "mine"]


def test_show_falls_back_to_the_disk(on_disk: Path) -> None:
    shown = dict(columns(line) for line in run_models("show", "mine").stdout.splitlines())
    assert (shown["name"], shown["settings"]) == ("Mine", "ctx_len=512")


def test_show_of_a_model_that_is_not_on_disk_names_those_that_are(on_disk: Path) -> None:
    result = run_models("show", "theirs")
    assert result.exit_code == 1
    assert "there is no model 'theirs' on disk; there are: broken, mine" in result.stderr


# --- chat from a pipe -------------------------------------------------------------------------------------------


def test_each_line_is_a_question_and_the_conversation_is_remembered(server: FakeServer) -> None:
    server.answers = [["Hel", "lo ", "you", DONE], ["Bye", DONE]]
    result = run_chat(server, "--system", "Be kind.", text="Hi\n\nBye now\n")
    assert (result.exit_code, result.stdout) == (0, "Hello you\nBye\n")
    assert server.chats[1]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello you"},
        {"role": "user", "content": "Bye now"},
    ]


def test_options_become_fields_of_the_request(server: FakeServer) -> None:
    server.answers = [["ok", DONE]]
    run_chat(server, "--temperature", "0", "--max-tokens", "5", "--seed", "7", text="Hi\n")
    sent = server.chats[0]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"], sent["stream"]) == (0, 5, 7, True)


def test_unset_options_are_not_sent(server: FakeServer) -> None:
    server.answers = [["ok", DONE]]
    run_chat(server, text="Hi\n")
    assert set(server.chats[0]) == {"model", "messages", "stream"}


def test_chunks_without_text_and_comments_are_no_part_of_the_answer(server: FakeServer) -> None:
    role = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
    usage = b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    server.answers = [[b": loading\n\n", role, "fine", b":\n\n", usage, DONE]]
    assert run_chat(server, text="Hi\n").stdout == "fine\n"


def test_an_error_in_the_stream_ends_with_its_message(server: FakeServer) -> None:
    server.answers = [["par", b'data: {"error": {"message": "the engine crashed", "code": "engine_crashed"}}\n\n']]
    result = run_chat(server, text="Hi\nMore\n")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "par\n", "Error: the engine crashed\n")


@pytest.mark.parametrize("answer", [["par"], ["par", b"data: {\n\n"]])
def test_an_answer_that_breaks_off_is_an_error(server: FakeServer, answer: list[object]) -> None:
    server.answers = [answer]
    result = run_chat(server, text="Hi\n")
    assert result.exit_code == 1
    assert "in the middle of the answer" in result.stderr or "no JSON" in result.stderr


# --- answers under a schema, calls ------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def chunk(reason: str | None = None, **delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@pytest.fixture
def schema_file(tmp_path: Path) -> Path:
    path = tmp_path / "a person.json"
    path.write_text("\ufeff" + json.dumps(SCHEMA), encoding="utf-8")  # as Windows' editors write it
    return path


def test_answers_under_a_schema(server: FakeServer, schema_file: Path) -> None:
    server.answers = [['{"name":', '"Ada"}', chunk("stop"), DONE], ['{"name":"Bo"}', chunk("stop"), DONE]]
    result = run_chat(server, "--json-schema", str(schema_file), text="Who?\nAnd who?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"name":"Ada"}\n{"name":"Bo"}\n', "")
    named = {"name": "answer", "schema": SCHEMA}
    asked = [body["response_format"] for body in server.chats]
    assert asked == [{"type": "json_schema", "json_schema": named}] * 2


def test_a_refusal_is_an_error(server: FakeServer, schema_file: Path) -> None:
    server.answers = [["{}", chunk(refusal="the answer does "), chunk(refusal="not fit"), chunk("stop"), DONE]]
    result = run_chat(server, "--json-schema", str(schema_file), text="Who?\nAnd who?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "{}\n", "Error: the answer does not fit\n")
    assert len(server.chats) == 1


def test_half_an_answer_is_an_error_where_it_must_be_whole(server: FakeServer, schema_file: Path) -> None:
    server.answers = [['{"na', chunk("length"), DONE]] * 2
    result = run_chat(server, "--json-schema", str(schema_file), text="Who?\n")
    assert (result.exit_code, result.stdout) == (1, '{"na\n')
    assert result.stderr.startswith("Error: the answer was cut")
    assert run_chat(server, text="Who?\n").exit_code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"{", "holds no JSON: "),
        (b'{"minimum": NaN}', "holds no JSON: NaN is no number"),
        (b"\xff", "holds no JSON: "),
        (b"[" * 100_000, "holds no JSON: "),
        (b"[]", "holds no JSON schema, which is an object"),
    ],
)
def test_a_file_without_a_schema(server: FakeServer, tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    result = run_chat(server, "--json-schema", str(path), text="Who?\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: --json-schema: {path} {told}")
    assert result.stderr.count("\n") == 1
    assert server.requests == []


def test_what_the_server_says_of_a_schema(server: FakeServer, schema_file: Path) -> None:
    told = {"error": {"message": "response_format.json_schema.schema.x is not supported", "code": "invalid_schema"}}
    server.refusals["POST /v1/chat/completions"] = (400, told)
    result = run_chat(server, "--json-schema", str(schema_file), text="Who?\n")
    assert (result.exit_code, result.stderr) == (1, "Error: response_format.json_schema.schema.x is not supported\n")


def test_calls_are_shown(server: FakeServer) -> None:
    first = {"index": 0, "id": "a", "function": {"name": "get_weather", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": text}} for text in ('{"city":', '"Oslo"}')]
    second = {"index": 1, "id": "b", "function": {"name": "get_time", "arguments": "{}"}}
    calls = [chunk(tool_calls=[call]) for call in (first, *more, second)]
    server.answers = [[*calls, chunk("tool_calls"), DONE], ["I look.", *calls[:1], chunk("tool_calls"), DONE]]
    result = run_chat(server, text="Weather?\nAnd now?\n")
    assert result.exit_code == 0
    assert result.stdout == 'get_weather({"city":"Oslo"})\nget_time({})\nI look.\nget_weather()\n'


def test_a_run_that_waits_for_tools_is_an_error(server: FakeServer) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    run = {"id": "r1", "object": "thread.run", "status": "requires_action", "required_action": action}
    told = "Error: the assistant asks for get_weather({}), and nobody here can call that"
    result = run_stored(server, [run])
    assert (result.exit_code, result.stdout) == (1, "\n")
    assert result.stderr == f"{told}; its run could not be cancelled: there is no /v1/threads/t1/runs/r1/cancel\n"
    server.refusals["POST /v1/threads/t1/runs/r1/cancel"] = (200, {**run, "status": "cancelled"})
    assert run_stored(server, [run]).stderr == f"{told}\n"


def test_a_stored_conversation_under_a_schema(server: FakeServer, schema_file: Path) -> None:
    def said(**part: object) -> dict[str, object]:
        return {"object": "thread.message.delta", "delta": {"content": [{"index": 0, **part}]}}

    words = said(type="text", text={"value": "{}"})
    refusal = said(type="refusal", refusal="it does not fit")
    done = {"object": "thread.run", "status": "completed"}
    result = run_stored(server, [words, done], "--json-schema", str(schema_file))
    assert (result.exit_code, result.stdout) == (0, "{}\n")
    assert server.requests[-1][2]["response_format"]["json_schema"]["schema"] == SCHEMA
    result = run_stored(server, [words, refusal, done], "--json-schema", str(schema_file))
    assert (result.exit_code, result.stderr) == (1, "Error: it does not fit\n")
    result = run_stored(server, [words, {**done, "status": "incomplete"}], "--json-schema", str(schema_file))
    assert (result.exit_code, result.stderr.startswith("Error: the answer was cut")) == (1, True)


def run_stored(server: FakeServer, events: list[dict[str, object]], *args: str) -> Result:
    server.runs = [[*events, DONE]]
    return run_chat(server, "--thread", "t1", *args, text="Hi\n")


def test_an_unknown_model_is_told_before_the_first_question(server: FakeServer) -> None:
    result = CliRunner().invoke(chat, ["nope", "--url", server.url], input="Hi\n")
    assert result.exit_code == 1
    assert "the server has no model 'nope'; there are: tiny, other" in result.stderr


def test_chat_without_a_server_says_how_to_start_one(nowhere: str) -> None:
    result = CliRunner().invoke(chat, ["tiny", "--url", nowhere], input="Hi\n")
    assert (result.exit_code, "janflask serve" in result.stderr) == (1, True)


# --- the whole program ------------------------------------------------------------------------------------------


def janflask(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "janflask.cli", *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_program_exits_with_0_1_and_2(server: FakeServer, nowhere: str) -> None:
    assert janflask("--version").stdout.startswith("janflask, version ")
    assert janflask("models", "list", "--url", server.url).returncode == 0
    assert janflask("models", "ps", "--url", nowhere).returncode == 1
    assert janflask("models", "ps", "--nonsense").returncode == 2


def test_the_commands_are_flasks_too(server: FakeServer) -> None:
    app = Flask("test")
    register(app)
    result = app.test_cli_runner().invoke(args=["models", "ps", "--url", server.url, "--json"])
    assert [model["id"] for model in json.loads(result.stdout)] == ["tiny"]


def test_flask_finds_the_commands_through_wsgi(server: FakeServer) -> None:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "models", "ps", "--json", "--url", server.url]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert [model["id"] for model in json.loads(result.stdout)] == ["tiny"]


def test_the_command_line_loads_neither_the_engine_nor_numpy() -> None:
    code = "import sys, janflask.cli; print([n for n in sys.modules if n.split('.')[0] in ('numpy', 'llama_cpp')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
