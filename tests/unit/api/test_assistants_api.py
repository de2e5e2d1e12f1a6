"""Assistants over HTTP: every answer is one that OpenAI's SDK understands, every refusal changes nothing."""

from __future__ import annotations

import io
import time
from typing import Any

import openai
import pytest
from flask.testing import FlaskClient
from openai.types.beta import Assistant

PATH = "/v1/assistants"
FIELDS = {
    "id",
    "object",
    "version",
    "created_at",
    "name",
    "description",
    "avatar",
    "model",
    "models",
    "instructions",
    "tools",
    "tool_resources",
    "file_ids",
    "events",
    "metadata",
    "temperature",
    "top_p",
    "response_format",
}


def create(client: FlaskClient, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assistant: dict[str, Any] = response.json or {}
    assert set(assistant) == FIELDS
    Assistant.model_validate(assistant)
    return assistant


def refused(client: FlaskClient, status: int, method: str = "POST", path: str = PATH, **body: Any) -> dict[str, Any]:
    before = client.get(PATH).json
    response = client.open(path, method=method, json=body)
    assert response.status_code == status, response.text
    assert client.get(PATH).json == before
    error: dict[str, Any] = (response.json or {})["error"]
    return error


def upload(client: FlaskClient) -> str:
    form = {"file": (io.BytesIO(b"content"), "a.txt"), "purpose": "assistants"}
    file_id: str = (client.post("/v1/files", data=form).json or {})["id"]
    return file_id


def test_jan_is_there_from_the_beginning(client: FlaskClient) -> None:
    listed = client.get(PATH).json or {}
    assert [assistant["id"] for assistant in listed["data"]] == ["jan"]
    jan = client.get(f"{PATH}/jan").json or {}
    assert (jan["id"], jan["object"], jan["model"], jan["name"]) == ("jan", "assistant", "*", "Jan")
    Assistant.model_validate(jan)
    assert listed == {"object": "list", "data": [jan], "first_id": "jan", "last_id": "jan", "has_more": False}


def test_jan_can_be_modified_and_not_deleted(client: FlaskClient) -> None:
    response = client.post(f"{PATH}/jan", json={"instructions": "Be brief."})
    assert response.status_code == 200
    error = refused(client, 409, "DELETE", f"{PATH}/jan")
    assert error["code"] == "conflict"
    assert (client.get(f"{PATH}/jan").json or {})["instructions"] == "Be brief."


def test_a_new_one_has_defaults(client: FlaskClient) -> None:
    earliest = int(time.time())
    assistant = create(client)
    assert earliest <= assistant.pop("created_at") <= time.time()
    assert assistant.pop("id").startswith("asst_")
    assert assistant == {
        "object": "assistant",
        "version": "1.0",
        "name": "",
        "description": "",
        "avatar": "",
        "model": "*",
        "models": [],
        "instructions": "",
        "tools": [],
        "tool_resources": None,
        "file_ids": [],
        "events": {},
        "metadata": {},
        "temperature": None,
        "top_p": None,
        "response_format": None,
    }


def test_what_is_given_is_kept(client: FlaskClient) -> None:
    body = {
        "id": "Tutor.1",
        "name": "Tutor",
        "description": "Explains",
        "avatar": "🦉",
        "model": "tiny",
        "models": [{"model_id": "tiny"}],
        "instructions": "Explain. \u0000\u2028",
        "tools": [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "f"}}],
        "tool_resources": {"code_interpreter": {"file_ids": []}},
        "file_ids": [],
        "events": {"in": [], "out": ["x"]},
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 1,
        "response_format": {"type": "json_object"},
    }
    assistant = create(client, **body, reasoning_effort="low", created_at=5, unknown=1)
    assert {name: assistant[name] for name in body} == body
    assert client.get(f"{PATH}/Tutor.1").json == assistant
    assert assistant["created_at"] != 5


def test_modifying_changes_what_is_given(client: FlaskClient) -> None:
    assistant = create(client, name="A", temperature=0.5, instructions="I")
    path = f"{PATH}/{assistant['id']}"
    changed = client.patch(path, json={"name": "B", "temperature": None}).json
    assert changed == {**assistant, "name": "B", "temperature": None}
    assert client.post(path, json={}).json == changed
    assert client.post(path, json={"name": None, "id": "other"}).json == {**assistant, "name": "", "temperature": None}
    assert client.get(path).json == {**assistant, "name": "", "temperature": None}


def test_deleting(client: FlaskClient) -> None:
    assistant_id = create(client)["id"]
    response = client.delete(f"{PATH}/{assistant_id}")
    assert (response.status_code, response.json) == (
        200,
        {"id": assistant_id, "object": "assistant.deleted", "deleted": True},
    )
    for method in ("GET", "POST", "PATCH", "DELETE"):
        refused(client, 404, method, f"{PATH}/{assistant_id}")


@pytest.mark.parametrize("assistant_id", ["nobody", "..", "%2e%2e", "a%2fb", "a" * 129, ".hidden", "a%00", "ä", "con"])
def test_ids_that_name_nothing(client: FlaskClient, assistant_id: str) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE"):
        refused(client, 404, method, f"{PATH}/{assistant_id}")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a" * 257}, "name"),
        ({"name": 5}, "name"),
        ({"description": "a" * 513}, "description"),
        ({"instructions": "a" * 256_001}, "instructions"),
        ({"model": ""}, "model"),
        ({"model": ["tiny"]}, "model"),
        ({"models": [{"id": "tiny"}]}, "models.0.model_id"),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}] * 129}, "tools"),
        ({"tool_resources": []}, "tool_resources"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"file_ids": [1]}, "file_ids.0"),
        ({"file_ids": ["file-nothing"]}, "file_ids"),
        ({"file_ids": ["../../etc/passwd"]}, "file_ids"),
        ({"events": []}, "events"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": "b" * 70_000}}, "metadata"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format"),
        ({"response_format": 1}, "response_format"),
    ],
)
def test_wrong_fields(client: FlaskClient, body: dict[str, Any], param: str) -> None:
    for path in (PATH, f"{PATH}/jan"):
        error = refused(client, 400, path=path, **body)
        assert error["param"] == param
        assert error["message"]


@pytest.mark.parametrize("assistant_id", ["", "..", "a/b", "import", "CON", "a" * 129, "a\u0000", "ä", "-a", "a."])
def test_ids_that_cannot_be_chosen(client: FlaskClient, assistant_id: str) -> None:
    assert refused(client, 400, id=assistant_id)["param"] == "id"


def test_an_id_that_is_taken(client: FlaskClient) -> None:
    create(client, id="mine", name="first")
    refused(client, 409, id="mine", name="second")
    refused(client, 409, id="jan")


def test_deep_metadata_is_refused(client: FlaskClient) -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": deep}
    assert refused(client, 400, metadata=deep)["param"] == "metadata"


def test_files_that_an_assistant_holds(client: FlaskClient) -> None:
    file_id = upload(client)
    assistant = create(client, file_ids=[file_id, file_id])
    assert assistant["file_ids"] == [file_id]
    response = client.delete(f"/v1/files/{file_id}")
    assert response.status_code == 409
    assert assistant["id"] in (response.json or {})["error"]["message"]
    with client.get(f"/v1/files/{file_id}/content") as content:
        assert content.data == b"content"
    client.post(f"{PATH}/{assistant['id']}", json={"file_ids": []})
    assert client.delete(f"/v1/files/{file_id}").status_code == 200


def test_files_of_a_deleted_assistant(client: FlaskClient) -> None:
    file_id = upload(client)
    assistant_id = create(client)["id"]
    client.patch(f"{PATH}/{assistant_id}", json={"file_ids": [file_id]})
    assert client.delete(f"/v1/files/{file_id}").status_code == 409
    client.delete(f"{PATH}/{assistant_id}")
    assert client.delete(f"/v1/files/{file_id}").status_code == 200


def test_pages(client: FlaskClient) -> None:
    ids = [create(client)["id"] for _ in range(5)]
    newest_first = [*reversed(ids), "jan"]

    def page(**query: Any) -> tuple[list[str], bool]:
        body = client.get(PATH, query_string=query).json or {}
        found = [assistant["id"] for assistant in body["data"]]
        assert (body["first_id"], body["last_id"]) == ((found[0], found[-1]) if found else (None, None))
        return found, body["has_more"]

    assert page() == (newest_first, False)
    assert page(order="asc") == (newest_first[::-1], False)
    assert page(limit=2) == (newest_first[:2], True)
    assert page(limit=2, after=newest_first[1]) == (newest_first[2:4], True)
    assert page(limit=2, before=newest_first[4]) == (newest_first[2:4], True)
    assert page(after="jan") == ([], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "unknown"}, "after"),
        ({"before": "../x"}, "before"),
    ],
)
def test_wrong_pages(client: FlaskClient, query: dict[str, Any], param: str) -> None:
    response = client.get(PATH, query_string=query)
    assert response.status_code == 400
    assert (response.json or {})["error"]["param"] == param


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_the_sdk(sdk: openai.OpenAI) -> None:
    made = [sdk.beta.assistants.create(model="tiny", name=f"n{i}", temperature=0.5) for i in range(3)]
    assert [assistant.name for assistant in made] == ["n0", "n1", "n2"]
    listed = [assistant.id for assistant in sdk.beta.assistants.list(limit=2)]
    assert listed == [*(assistant.id for assistant in reversed(made)), "jan"]
    changed = sdk.beta.assistants.update(made[0].id, instructions="New", metadata={"a": "b"}, tools=[])
    assert (changed.instructions, changed.metadata, changed.name) == ("New", {"a": "b"}, "n0")
    assert sdk.beta.assistants.retrieve(made[0].id) == changed
    gone = sdk.beta.assistants.delete(made[0].id)
    assert (gone.id, gone.deleted, gone.object) == (made[0].id, True, "assistant.deleted")
    with pytest.raises(openai.NotFoundError):
        sdk.beta.assistants.retrieve(made[0].id)
