"""A run of what it could not use is refused by name, over folders as Jan wrote them, and nothing is stored then."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from janflask import create_app
from janflask.errors import UnavailableError
from janflask.ipc.clients.runner import RunnerClient
from janflask.settings import Settings
from janflask.storage.records import Run
from tests.unit.api.stored import refused

THREAD = "jan_1717666232"
RUNS = f"/v1/threads/{THREAD}/runs"
RETRIEVAL = {
    "type": "retrieval",
    "enabled": True,
    "useTimeWeightedRetriever": False,
    "settings": {"top_k": 2, "chunk_size": 1024, "chunk_overlap": 64, "retrieval_template": "{CONTEXT} {QUESTION}"},
}
JAN = {
    "avatar": "",
    "id": "jan",
    "object": "assistant",
    "created_at": 1712600000000,
    "name": "Jan",
    "model": "*",
    "instructions": "",
    "tools": [{**RETRIEVAL, "enabled": False}],
    "file_ids": [],
}
ENTRY = {
    "assistant_id": "jan",
    "assistant_name": "Jan",
    "tools": [RETRIEVAL],
    "model": {"id": "tiny", "settings": {}, "parameters": {}, "engine": "nitro"},
}
HELLO = [{"type": "text", "text": {"value": "Hello", "annotations": []}}]
# What versions of Jan wrote, oldest first.
IMAGE_05 = [{"type": "image", "text": {"value": "What is this?", "annotations": [f"threads/{THREAD}/files/a.png"]}}]
PDF_05 = [
    {
        "type": "pdf",
        "text": {"value": "Sum up", "annotations": [f"threads/{THREAD}/files/a.pdf"], "name": "a.pdf", "size": 3},
    }
]
IMAGE_06 = [*HELLO, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
TOOL_07 = [*HELLO, {"type": "tool_call", "tool_call_id": "1", "tool_name": "search", "input": {}, "output": "x"}]


def line(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A message as Jan keeps it."""
    created = 1717671963458 + number
    return {
        "id": f"01HZPKMAT2GANGVWPM4W78SW{number:02}",
        "thread_id": THREAD,
        "role": "user",
        "status": "ready",
        "created": created,
        "updated": created,
        "object": "thread.message",
        "content": HELLO,
        **fields,
    }


def error_line(number: int, **fields: Any) -> dict[str, Any]:
    text = {"value": "Model failed to load", "annotations": []}
    return line(
        number, **{"role": "assistant", "status": "error", "content": [{"type": "text", "text": text}], **fields}
    )


class Folder:
    """A data folder of Jan's, with the model ``tiny``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("models/tiny/model.json", {"id": "tiny", "created": 1_700_000_000})
        (root / "models/tiny/model.gguf").write_bytes(b"GGUF")
        self.assistant()
        self.thread()
        self.messages(line())

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2))

    def assistant(self, **fields: Any) -> None:
        self.write("assistants/jan/assistant.json", JAN | fields)

    def thread(self, entry: Mapping[str, Any] | None = None, **fields: Any) -> None:
        thread = {"id": THREAD, "title": "A talk", "created": 1717666232000, "updated": 1717666232000}
        self.write(f"threads/{THREAD}/thread.json", {**thread, "assistants": [ENTRY | (entry or {})], **fields})

    def messages(self, *lines: Mapping[str, Any]) -> None:
        text = "".join(json.dumps(item) + "\n" for item in lines)
        (self.root / "threads" / THREAD / "messages.jsonl").write_text(text)

    def tree(self) -> dict[str, bytes | None]:
        """Everything but what is derived: the content of files, None for folders."""
        paths = [path for name in ("threads", "assistants", "files") for path in (self.root / name).rglob("*")]
        return {str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "jan")


@pytest.fixture
def client(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    def away(self: RunnerClient, thread_id: str, run_id: str, timeout: float) -> Run:
        raise UnavailableError("the runner is away; the next one finds the run")

    monkeypatch.setattr(RunnerClient, "begin", away)
    return create_app(Settings(data_dir=folder.root, runtime_dir=folder.root)).test_client()


def refused_without_a_trace(
    client: FlaskClient, folder: Folder, path: str, body: dict[str, Any], param: str
) -> dict[str, Any]:
    before = folder.tree()
    error = refused(client.post(path, json=body), 400, param)
    assert folder.tree() == before, "a refused run leaves nothing behind"
    return error


def accepted(client: FlaskClient, body: dict[str, Any] | None = None) -> Any:
    answer = client.post(RUNS, json=body or {})
    assert answer.status_code == 200, answer.text
    return answer.json


# --- messages -------------------------------------------------------------------------------------------------------


def test_a_folder_of_jans_runs_as_it_is(client: FlaskClient) -> None:
    run = accepted(client)
    assert (run["status"], run["tool_choice"], run["response_format"]) == ("queued", "auto", "auto")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"content": IMAGE_05}, "a picture (image)"),
        ({"content": PDF_05}, "a document (pdf)"),
        ({"content": IMAGE_06}, "a picture (image_url)"),
        ({"content": [{"type": "image_file", "image_file": {"file_id": "file-1"}}]}, "a picture (image_file)"),
        (
            {"attachments": [{"file_id": "01J", "tools": [{"type": "file_search"}]}]},
            "the file 01J (for file_search)",
        ),
        ({"file_ids": ["file-1"]}, "the file file-1"),
        ({"role": "assistant", "content": TOOL_07}, "a tool's call (tool_call)"),
        ({"role": "assistant", "content": [], "tool_calls": [{"id": "1"}]}, "(tool_calls)"),
        ({"role": "assistant", "content": [IMAGE_06[1]]}, "a picture (image_url)"),
        ({"role": "function"}, "words in the role of 'function'"),
        ({"content": {"text": "Hello"}}, "content that cannot be read"),
        ({"metadata": {"inline_file_contents": [{"name": "a", "content": "b"}]}}, "the text of a file"),
    ],
    ids=str,
)
def test_a_stored_message(client: FlaskClient, folder: Folder, fields: dict[str, Any], what: str) -> None:
    held = line(1, **fields)
    folder.messages(line(), held, line(2))
    more = {"additional_messages": [{"role": "user", "content": "And?"}]}
    error = refused_without_a_trace(client, folder, RUNS, more, "thread_id")
    assert error["code"] == "invalid_value"
    assert f"message {held['id']} holds" in error["message"]
    assert what in error["message"]
    # What it says can be done about it, can be.
    shown = {"truncation_strategy": {"type": "last_messages", "last_messages": 1}}
    assert accepted(client, shown)["status"] == "queued"


def test_a_message_that_is_changed_as_the_error_says(client: FlaskClient, folder: Folder) -> None:
    folder.messages(line(content=IMAGE_05))
    refused(client.post(RUNS, json={}), 400, "thread_id")
    path = f"/v1/threads/{THREAD}/messages/{line()['id']}"
    assert client.post(path, json={"content": "What is this?"}).status_code == 200
    accepted(client)


@pytest.mark.parametrize(
    "fields",
    [
        {"content": PDF_05},
        {"attachments": [{"file_id": "01J", "tools": [{"type": "file_search"}]}]},
        {"file_ids": ["file-1"]},
    ],
    ids=str,
)
def test_without_tools_their_files_are_not_missed(client: FlaskClient, folder: Folder, fields: dict[str, Any]) -> None:
    folder.messages(line(**fields))
    error = refused_without_a_trace(client, folder, RUNS, {}, "thread_id")
    assert 'tool_choice "none"' in error["message"]
    assert accepted(client, {"tool_choice": "none"})["tool_choice"] == "none"


def test_an_error_is_no_part_of_what_was_said(client: FlaskClient, folder: Folder) -> None:
    """Whatever it holds."""
    folder.messages(line(), error_line(1, content=IMAGE_06, error_code="unknown"))
    accepted(client)


def uploaded(client: FlaskClient) -> str:
    answer = client.post("/v1/files", data={"purpose": "assistants", "file": (io.BytesIO(b"x"), "a.txt")})
    assert answer.json is not None
    file_id: str = answer.json["id"]
    return file_id


PICTURE = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]


def test_a_message_that_comes_with_the_run(client: FlaskClient, folder: Folder) -> None:
    file_id = uploaded(client)
    attached = {"role": "user", "content": "x", "attachments": [{"file_id": file_id, "tools": []}]}
    for message, what in (
        ({"role": "user", "content": PICTURE}, "a picture (image_url)"),
        (attached, f"the file {file_id}"),
        ({"role": "user", "content": "x", "file_ids": [file_id]}, f"the file {file_id}"),
    ):
        body = {"additional_messages": [{"role": "user", "content": "a"}, message]}
        error = refused_without_a_trace(client, folder, RUNS, body, "additional_messages.1")
        assert f"additional_messages.1 holds {what}" in error["message"]
    body = {"additional_messages": [{"role": "user", "content": "a"}, {**attached, "file_ids": ["file-none"]}]}
    error = refused_without_a_trace(
        client, folder, RUNS, body | {"tool_choice": "none"}, "additional_messages.1.file_ids"
    )
    assert error["code"] == "file_not_found"
    assert [item["content"] for item in messages(client)] == [HELLO]


def messages(client: FlaskClient) -> list[dict[str, Any]]:
    found = client.get(f"/v1/threads/{THREAD}/messages").json
    assert found is not None
    return list(found["data"])


def test_a_thread_that_comes_with_the_run(client: FlaskClient, folder: Folder) -> None:
    file_id = uploaded(client)
    body: dict[str, Any] = {"model": "tiny", "thread": {"messages": [{"role": "user", "content": PICTURE}]}}
    error = refused_without_a_trace(client, folder, "/v1/threads/runs", body, "thread.messages.0")
    assert "thread.messages.0 holds a picture (image_url)" in error["message"]
    body["thread"] = {"messages": [{"role": "user", "content": "x", "file_ids": [file_id]}]}
    refused_without_a_trace(client, folder, "/v1/threads/runs", body, "thread.messages.0")
    body["thread"] = {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}
    refused_without_a_trace(client, folder, "/v1/threads/runs", body, "thread.tool_resources")
    held, none = ({"role": "user", "content": "x", "file_ids": [name]} for name in (file_id, "file-none"))
    for body["thread"], added, param in (
        ({"messages": [held, none]}, [], "thread.messages.1.file_ids"),
        ({"messages": [held]}, [none], "additional_messages.0.file_ids"),
    ):
        more = {"tool_choice": "none", "additional_messages": added}
        error = refused_without_a_trace(client, folder, "/v1/threads/runs", body | more, param)
        assert error["code"] == "file_not_found"
    body["thread"] = {"messages": [{"role": "user", "content": "x"}]}
    body["additional_messages"] = [{"role": "user", "content": PICTURE}]
    refused_without_a_trace(client, folder, "/v1/threads/runs", body, "additional_messages.0")
    body.pop("additional_messages")
    assert client.post("/v1/threads/runs", json=body).status_code == 200


# --- who answers ----------------------------------------------------------------------------------------------------


def function(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "parameters": {"type": "object", **parameters}}}


FUNCTION = function()
CODE = [{"type": "code_interpreter"}]
OFF = {"type": "function", "enabled": False, "function": {"name": "f g"}}
JSON = {"type": "json_object"}


@pytest.mark.parametrize(
    ("fields", "what", "way_out"),
    [
        ({"tools": CODE}, "tools (code_interpreter)", {"tools": []}),
        ({"tools": CODE}, "tools (code_interpreter)", {"tool_choice": "none"}),
        ({"tools": [{"type": "function", "function": {"name": "f g"}}]}, "tools.0.function.name", {"tools": []}),
        ({"tools": [function(properties={"a": {"$ref": "#/x"}})]}, "tools.0.function.parameters", {"tools": []}),
        ({"tools": [FUNCTION, FUNCTION]}, "tools.1.function.name comes twice: look", {"tools": []}),
        ({"tools": [OFF, FUNCTION, FUNCTION]}, "tools.2.function.name comes twice: look", {"tools": []}),
        ({"file_ids": ["file-1"]}, "files (file_ids)", {"tool_choice": "none"}),
        ({"tool_resources": {"code_interpreter": {"file_ids": ["f"]}}}, "tool_resources", {"tools": []}),
        ({"response_format": {"type": "xml"}}, "response_format.type", {"response_format": {"type": "text"}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "json_schema.name",
            {"response_format": "auto"},
        ),
    ],
    ids=str,
)
def test_what_the_assistant_wants(
    client: FlaskClient, folder: Folder, fields: dict[str, Any], what: str, way_out: dict[str, Any]
) -> None:
    folder.thread({"tools": None})
    folder.assistant(**fields)
    error = refused_without_a_trace(client, folder, RUNS, {}, "assistant_id")
    assert error["message"].startswith("assistant jan ")
    assert what in error["message"]
    new = {"model": "tiny", "thread": {"messages": [{"role": "user", "content": "x"}]}}
    refused_without_a_trace(client, folder, "/v1/threads/runs", new, "assistant_id")
    accepted(client, way_out)


def test_what_the_threads_entry_wants_counts_over_the_assistant(client: FlaskClient, folder: Folder) -> None:
    folder.thread({"tools": CODE})
    refused_without_a_trace(client, folder, RUNS, {}, "assistant_id")
    folder.thread({"tools": []})
    folder.assistant(tools=CODE)
    accepted(client)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": CODE}, "tools.0.type"),
        ({"tools": [{"type": "file_search"}]}, "tools.0.type"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools.1.function.name"),
        ({"tools": [function(properties={"a": {"$ref": "#/x"}})]}, "tools.0.function.parameters.properties.a.$ref"),
        ({"tools": [function(x=1 << 70)]}, "tools.0"),
        ({"tools": [OFF, *CODE]}, "tools.1.type"),
        ({"tools": [OFF, FUNCTION, OFF, function(x=1 << 70)]}, "tools.3"),
        ({"tools": [OFF, {"type": "function", "function": {"name": "f g"}}]}, "tools.1.function.name"),
        ({"tools": [OFF, FUNCTION, OFF, FUNCTION]}, "tools.3.function.name"),
        (
            {"tools": [OFF, function(properties={"a": {"$ref": "#/x"}})]},
            "tools.1.function.parameters.properties.a.$ref",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "go"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"regex": 5}, "regex"),
        ({"json_schema": {"not": {}}}, "json_schema.not"),
        ({"json_schema": {"const": "x" * 70_000}}, "json_schema"),
        ({"guided_json": {"const": 1 << 70}}, "guided_json"),
        ({"grammar": 'root ::= "'}, "grammar"),
        ({"guided_choice": ["a", 1]}, "guided_choice.1"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"regex": "a", "response_format": JSON}, "regex"),
        ({"tool_resources": {"file_search": {"vector_store_ids": ["v"]}}}, "tool_resources"),
    ],
    ids=str,
)
def test_what_the_run_itself_wants(client: FlaskClient, folder: Folder, body: dict[str, Any], param: str) -> None:
    refused_without_a_trace(client, folder, RUNS, body, param)
    refused_without_a_trace(client, folder, "/v1/threads/runs", {"model": "tiny", **body}, param)


@pytest.mark.parametrize(
    ("assistant", "entry", "thread", "body", "names"),
    [
        ([FUNCTION], None, {}, {}, ["look"]),
        ([FUNCTION, {**CODE[0], "enabled": False}, RETRIEVAL], None, {}, {}, ["look"]),
        ([FUNCTION], [], {}, {}, []),
        ([], [FUNCTION], {}, {}, ["look"]),
        (CODE, CODE, {"parameters": {"tools": [FUNCTION]}}, {}, ["look"]),
        (CODE, None, {}, {"tools": [FUNCTION, {**RETRIEVAL, "enabled": False}]}, ["look"]),
        ([FUNCTION], None, {}, {"tools": []}, []),
        ([FUNCTION], None, {}, {"tool_choice": "none"}, []),
    ],
)
def test_which_functions_a_run_may_call(
    client: FlaskClient, folder: Folder, assistant: Any, entry: Any, thread: Any, body: Any, names: list[str]
) -> None:
    folder.assistant(tools=assistant)
    folder.thread({"tools": entry}, **thread)
    assert [tool["function"]["name"] for tool in accepted(client, body)["tools"]] == names


def test_what_a_run_keeps_as_it_was_sent(client: FlaskClient, folder: Folder) -> None:
    chosen = {"type": "function", "function": {"name": "look"}}
    strict = {**FUNCTION, "function": {**FUNCTION["function"], "description": "Looks."}}
    run = accepted(client, {"tools": [strict], "tool_choice": chosen, "parallel_tool_calls": False})
    assert (run["tools"], run["tool_choice"], run["parallel_tool_calls"]) == ([strict], chosen, False)


@pytest.mark.parametrize("where", ["run", "assistant", "thread"])
def test_whose_form_an_answer_has(client: FlaskClient, folder: Folder, where: str) -> None:
    form = {"response_format": JSON}
    folder.assistant(**form if where == "assistant" else {})
    folder.thread(parameters=form if where == "thread" else {})
    assert accepted(client, form if where == "run" else {})["response_format"] == JSON


@pytest.mark.parametrize(
    ("body", "form"),
    [
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"ebnf": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"guided_choice": ["a", "b"], "response_format": "auto"}, {"guided_choice": ["a", "b"]}),
        ({"structured_outputs": {"json": {"const": 1}}}, {"structured_outputs": {"json": {"const": 1}}}),
    ],
)
def test_a_form_of_the_runs_own_counts_over_its_assistants(
    client: FlaskClient, folder: Folder, body: dict[str, Any], form: dict[str, Any]
) -> None:
    folder.assistant(response_format={"type": "xml"})
    run = accepted(client, body)
    assert (run["form"], run["response_format"]) == (form, "auto")
    stored = json.loads((folder.root / "threads" / THREAD / "runs" / f"{run['id']}.json").read_bytes())
    assert stored["form"] == form, "as it was sent"


@pytest.mark.parametrize("body", [{"grammar": ""}, {"structured_outputs": {"regex": None}}, {"guided_choice": []}])
def test_a_field_that_asks_for_no_form(client: FlaskClient, folder: Folder, body: dict[str, Any]) -> None:
    folder.assistant(response_format=JSON)
    run = accepted(client, body)
    assert (run["form"], run["response_format"]) == (None, JSON)


def test_calls_of_earlier_runs_that_cannot_be_read(client: FlaskClient, folder: Folder) -> None:
    folder.messages(line(), line(1, role="assistant", tool_rounds=[{"calls": "none"}]))
    error = refused_without_a_trace(client, folder, RUNS, {}, "thread_id")
    assert "calls that cannot be read (tool_rounds)" in error["message"]


def test_resources_with_nothing_in_them(client: FlaskClient) -> None:
    body = {"model": "tiny", "tool_resources": {"file_search": {"vector_store_ids": []}}}
    assert client.post("/v1/threads/runs", json=body).status_code == 200


# --- the same in a chat ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/apply-template"])
@pytest.mark.parametrize(
    ("part", "what"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "a picture (image_url)"),
        ({"type": "input_audio", "input_audio": {}}, "a sound (input_audio)"),
        ({"type": "file", "file": {}}, "a file (file)"),
        ({"type": "hologram"}, "a part of the type 'hologram'"),
        ({"type": "reasoning", "text": "x"}, "'reasoning'"),
        ({}, "a part without a type"),
    ],
    ids=str,
)
def test_a_part_of_a_chat(client: FlaskClient, path: str, part: dict[str, Any], what: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": [part]}]}
    error = refused(client.post(path, json=body), 400, "messages.0.content.0.type")
    assert error["message"].endswith(f"must be text, the models here read nothing else, not {what}")


# --- words ----------------------------------------------------------------------------------------------------------


def test_words_inside_a_picture_or_document_are_found(client: FlaskClient, folder: Folder) -> None:
    folder.messages(line(content=IMAGE_05), line(1, content=PDF_05))
    for query, found in (("what this", [THREAD]), ("sum", [THREAD]), ("files", [])):
        listed = client.get(f"/v1/threads?q={query}").json
        assert listed is not None
        assert [item["id"] for item in listed] == found
