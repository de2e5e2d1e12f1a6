"""What a key finds of another's: nothing. Each operation of the document, each id that it takes, each list it gives."""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from janflask.access.key_file import KeyFile
from janflask.access.keys import Limits, new_key
from janflask.access.scopes import Scope
from janflask.files import ids
from tests.unit.api.conftest import World
from tests.unit.api.running import running_app
from tests.unit.api.test_access import METHODS, bearer, code

SECRET = "the plan is to meet at the old mill"
BOTH = (Scope.INFERENCE, Scope.CONVERSATIONS)
# Parameters of paths that name nothing stored by a key.
SHARED = {"model_id": "tiny"}
# Fields of bodies and queries that look like ids and name nothing that a key has stored.
NAMES_NOTHING = {
    *(
        "model_id",
        "model.id",
        "models.model_id",
        "assistants.model.id",
        "thread.model_id",
        "thread.assistants.model.id",
    ),
    *("messages.tool_call_id", "messages.tool_calls.id", "input.call_id", "items.call_id", "tool_outputs.tool_call_id"),
    *("items.id", "assistants.assistant_id", "thread.assistants.assistant_id"),  # the object's own, taken as it is
    *("messages.id",),  # of the thread in the path
    "id",  # of what is made: see ``test_an_id_that_is_taken``
    "thread.id",
}


@dataclass
class Party:
    """A key, and what it has made, by the names of the parameters that take it."""

    key_id: str
    headers: dict[str, str]
    has: dict[str, str] = field(default_factory=dict)


@dataclass
class Town:
    """A server with keys and a runner: ``alice`` has one of everything, ``bob`` nothing."""

    world: World
    client: FlaskClient
    file: KeyFile
    alice: Party
    bob: Party
    boss: Party

    def ask(self, party: Party, method: str, path: str, **given: Any) -> TestResponse:
        """Its answer, read to the end."""
        response = self.client.open(path, method=method, headers=party.headers, **given)
        response.get_data()
        response.close()
        return response

    def made(self, party: Party, path: str, body: Any) -> dict[str, Any]:
        response = self.ask(party, "POST", path, json=body)
        assert response.status_code == 200, response.text
        assert response.json is not None
        found: dict[str, Any] = response.json
        return found

    def tree(self) -> dict[str, bytes]:
        """All that is stored, as it lies on the disk."""
        data = self.world.settings.data_dir
        paths = [path for name in ("threads", "files", "assistants") for path in (data / name).rglob("*")]
        return {str(path.relative_to(data)): path.read_bytes() for path in paths if path.is_file()}


def add_key(file: KeyFile, name: str, *scopes: Scope) -> Party:
    key, text = new_key(name, frozenset(scopes), Limits(), 1)
    file.change(lambda keyring: keyring.with_key(key))
    return Party(key.id, bearer(text))


@pytest.fixture
def town(world: World) -> Iterator[Town]:
    world.runs_as(ctx_len=4096)
    with running_app(world) as app:
        yield _town(world, app)


def _town(world: World, app: Flask) -> Town:
    file = KeyFile(world.settings.secrets_dir)
    alice, bob = add_key(file, "alice", *BOTH), add_key(file, "bob", *BOTH)
    found = Town(world, app.test_client(), file, alice, bob, add_key(file, "boss", Scope.ADMIN))
    alice.has = _one_of_everything(found, alice)
    return found


def _one_of_everything(town: Town, party: Party) -> dict[str, str]:
    form = {"purpose": "assistants", "file": (io.BytesIO(SECRET.encode()), "plan.txt")}
    upload = town.ask(party, "POST", "/v1/files", data=form)
    assert upload.json is not None, upload.text
    file_id = str(upload.json["id"])
    assistant_id = town.made(party, "/v1/assistants", {"instructions": SECRET, "model": "tiny"})["id"]
    answered = town.made(party, "/v1/threads", {"messages": [{"role": "user", "content": SECRET}]})["id"]
    run = town.made(party, f"/v1/threads/{answered}/runs", {"model": "tiny", "stream": False})
    town.ask(party, "GET", f"/v1/threads/{answered}/runs/{run['id']}/events")
    steps = town.ask(party, "GET", f"/v1/threads/{answered}/runs/{run['id']}/steps").json
    assert steps is not None
    held = {"role": "user", "content": SECRET, "file_ids": [file_id]}
    message_id = town.made(party, f"/v1/threads/{answered}/messages", held)["id"]
    items = [{"type": "message", "role": "user", "content": SECRET}]
    conversation = town.made(party, "/v1/conversations", {"items": items})["id"]
    listed = town.ask(party, "GET", f"/v1/conversations/{conversation}/items").json
    assert listed is not None
    body = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}], "store": True}
    chat = town.ask(party, "POST", "/v1/chat/completions", json=body)
    return {
        "thread_id": answered,
        "message_id": message_id,
        "file_id": file_id,
        "assistant_id": assistant_id,
        "run_id": run["id"],
        "step_id": steps["data"][0]["id"],
        "conversation_id": conversation,
        "item_id": listed["data"][0]["id"],
        "response_id": town.made(party, "/v1/responses", {"model": "tiny", "input": SECRET})["id"],
        "completion_id": chat.headers["X-Chat-Completion-Id"],
    }


def never_was(name: str) -> str:
    """An id like another one that nothing has."""
    for answer in (ids.RESPONSE, ids.CHAT):
        if name.startswith(answer):
            return ids.new_answer_id(answer, ids.new_id(ids.THREAD))
    return ids.new_id(re.split(r"(?<=[_-])", name, maxsplit=1)[0])


def document(town: Town) -> dict[str, Any]:
    found = town.client.get("/openapi.json").json
    assert found is not None
    return dict(found)


def operations(town: Town) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document(town)["paths"].items():
        for method, told in methods.items():
            if method in METHODS:
                yield method.upper(), path, told


def example(told: Mapping[str, Any]) -> dict[str, Any]:
    """A body that is right, as the document has it."""
    content = told.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return {}
    return {"json": copy.deepcopy(content["application/json"].get("example", {}))}


def said(response: TestResponse, names: Mapping[str, str]) -> tuple[Any, ...]:
    """All that an answer tells, without the ids that were asked for."""
    text = re.sub(r'"request_id":"\w+"', "", response.get_data(as_text=True))
    own = ("x-request-id", "request-id", "date", "content-length")  # of each answer
    headers = {name: value for name, value in response.headers if name.lower() not in own}
    for place, name in names.items():
        for form in (name, ids.conversation_id(name), ids.thread_id(name)):
            text = text.replace(form, f"<{place}>")
    return response.status_code, text, headers


# --- every operation --------------------------------------------------------------------------------------------------


def test_each_operation_on_anothers_things_finds_nothing_and_changes_nothing(town: Town) -> None:
    before, seen = town.tree(), 0
    for method, path, told in operations(town):
        places = [place for place in re.findall(r"{(\w+)}", path) if place not in SHARED]
        if not places:
            continue
        foreign = {place: town.alice.has[place] for place in places}  # a new kind of id: say how alice has one
        missing = {place: never_was(name) for place, name in foreign.items()}
        if path.startswith("/v1/threads/{thread_id}/assistants/"):
            foreign["assistant_id"] = missing["assistant_id"] = "jan"
        theirs = town.ask(town.bob, method, _filled(path, foreign), **example(told))
        nobodys = town.ask(town.bob, method, _filled(path, missing), **example(told))
        assert theirs.status_code == 404, (method, path, theirs.text)
        assert said(theirs, foreign) == said(nobodys, missing), (method, path)
        assert SECRET not in theirs.text
        if method == "GET":
            for party in (town.alice, town.boss):
                found = town.ask(party, method, _filled(path, foreign))
                assert found.status_code == 200, (path, found.text)
        seen += 1
    assert seen >= 50
    assert town.tree() == before


def test_a_conversation_is_hidden_under_both_of_its_names(town: Town) -> None:
    for path, name in (("conversations", town.alice.has["thread_id"]), ("threads", town.alice.has["conversation_id"])):
        for text in (ids.conversation_id(ids.thread_id(name)), ids.thread_id(name)):
            assert town.ask(town.alice, "GET", f"/v1/{path}/{text}").status_code == 200
            assert town.ask(town.bob, "GET", f"/v1/{path}/{text}").status_code == 404


def test_no_list_of_the_document_shows_anothers(town: Town) -> None:
    lists = [
        path
        for method, path, told in operations(town)
        if method == "GET" and "{" not in path and Scope.ADMIN not in told["x-janflask-scope"]
    ]
    assert len(lists) > 5
    names = set(town.alice.has.values()) | {SECRET, town.alice.key_id}
    shown: set[str] = set()
    for path in lists:
        theirs = _unpacked(town.ask(town.bob, "GET", path))
        assert not [name for name in names if name in theirs], path
        shown |= {name for name in names if name in _unpacked(town.ask(town.alice, "GET", path))}
    assert {"thread_id", "file_id", "assistant_id", "completion_id", "conversation_id"} <= {
        place for place, name in town.alice.has.items() if name in shown
    }
    assert SECRET in shown
    assert town.alice.key_id not in shown, "whose a thing is, is not told"


def test_a_search_finds_and_counts_ones_own(town: Town) -> None:
    mine = town.made(town.bob, "/v1/threads", {"messages": [{"role": "user", "content": "the old mill"}]})["id"]
    found = town.ask(town.bob, "GET", "/v1/threads", query_string={"q": "mill", "limit": 1})
    assert [thread["id"] for thread in found.json or ()] == [mine]
    assert json.loads(found.headers["X-Pagination"])["has_more"] is False
    for query in ({}, {"limit": 1}):
        response = town.ask(town.bob, "GET", "/v1/threads", query_string=query)
        assert json.loads(response.headers["X-Pagination"]) == {
            **{"total": 1, "limit": query.get("limit"), "has_more": False},
            **{"first_id": mine, "last_id": mine},
        }
    everybodys = town.ask(town.boss, "GET", "/v1/threads", query_string={"limit": 100}).json
    assert {mine, town.alice.has["thread_id"]} <= {thread["id"] for thread in everybodys or ()}


# --- every field ------------------------------------------------------------------------------------------------------

Body = dict[str, Any]
_HI = {"role": "user", "content": "Hi"}
_MODEL = {"model": "tiny", "max_tokens": 8}


def _picture(name: str) -> Body:
    return {"role": "user", "content": [{"type": "image_file", "image_file": {"file_id": name}}]}


def _attached(name: str) -> Body:
    return {**_HI, "attachments": [{"file_id": name, "tools": []}]}


def _held(name: str) -> Body:
    return {**_HI, "file_ids": [name]}


def _answered(**fields: Any) -> Body:
    return {"model": "tiny", "input": "Hi", **fields}


@dataclass(frozen=True)
class Field:
    """A field that takes an id: of what, and a body that has it."""

    place: str
    body: Callable[[str], Body]


_FILES: dict[str, Callable[[str], Body]] = {
    "attachments.file_id": _attached,
    "content.image_file.file_id": _picture,
    "file_ids": _held,
}
_ANSWERS = ("createResponse", "countResponseInputTokens", "compactResponse")
FIELDS: dict[str, Field] = {
    **{name: Field("file_id", body) for name, body in _FILES.items()},
    **{
        f"messages.{name}": Field("file_id", lambda name, body=body: {"messages": [body(name)]})  # type: ignore[misc]
        for name, body in _FILES.items()
    },
    **{
        f"thread.messages.{name}": Field(
            "file_id",
            lambda name, body=body: {"model": "tiny", "thread": {"messages": [body(name)]}},  # type: ignore[misc]
        )
        for name, body in _FILES.items()
    },
    **{
        f"additional_messages.{name}": Field(
            "file_id",
            lambda name, body=body: {"model": "tiny", "additional_messages": [body(name)]},  # type: ignore[misc]
        )
        for name, body in _FILES.items()
    },
    "assistant_id": Field("assistant_id", lambda name: {"model": "tiny", "assistant_id": name}),
    "assistants": Field("assistant_id", lambda name: {"assistants": [name]}),
    "thread.assistants": Field("assistant_id", lambda name: {"model": "tiny", "thread": {"assistants": [name]}}),
    "conversation": Field("conversation_id", lambda name: _answered(conversation=name, messages=[_HI], max_tokens=8)),
    "conversation.id": Field("conversation_id", lambda name: _answered(conversation={"id": name})),
    "previous_response_id": Field("response_id", lambda name: _answered(previous_response_id=name)),
    "prompt_cache_options.comparison_response_id": Field(
        "response_id", lambda name: _answered(prompt_cache_options={"comparison_response_id": name})
    ),
    "diagnostics.previous_message_id": Field(
        "message_id", lambda name: {**_MODEL, "messages": [_HI], "diagnostics": {"previous_message_id": name}}
    ),
    "input.id": Field("item_id", lambda name: _answered(input=[{"type": "item_reference", "id": name}])),
}
FIELDS["file_ids"] = Field("file_id", lambda name: {**_held(name), "model": "tiny"})


def _fields(schemas: Mapping[str, Any], schema: Mapping[str, Any], path: str, seen: frozenset[str]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from _fields(schemas, schemas[name], path, seen | {name})
        return
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from _fields(schemas, inner, f"{path}{name}.", seen)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _fields(schemas, schema[key], path, seen)
    for key in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(key, ()):
            yield from _fields(schemas, inner, path, seen)


def _takes_ids(town: Town) -> Mapping[str, list[tuple[str, str]]]:
    """The fields of bodies that look as if they took an id, and the operations that have each."""
    schemas, found = document(town)["components"]["schemas"], defaultdict(list)
    for method, path, told in operations(town):
        content = told.get("requestBody", {}).get("content", {})
        names = {name for kind in content.values() for name in _fields(schemas, kind["schema"], "", frozenset())}
        for name in names:
            last = name.rpartition(".")[2]
            if re.search(r"(^|_)ids?$", last) or last in ("conversation", "assistants"):
                found[name].append((method, path))
    return found


def test_each_field_that_takes_an_id_takes_ones_own_only(town: Town) -> None:
    before, fields = town.tree(), _takes_ids(town)
    assert set(fields) - NAMES_NOTHING == set(FIELDS), "a new field that takes an id: say what it names"
    thread = town.made(town.bob, "/v1/threads", {})["id"]
    message = town.made(town.bob, f"/v1/threads/{thread}/messages", _HI)["id"]
    own = {"thread_id": thread, "message_id": message}
    for name, taking in FIELDS.items():
        for method, path in fields[name]:
            if path.startswith("/v1/assistants/"):
                own["assistant_id"] = town.made(town.bob, "/v1/assistants", {"model": "tiny"})["id"]
            foreign = {"id": town.alice.has[taking.place]}
            missing = {"id": never_was(foreign["id"])}
            theirs = town.ask(town.bob, method, _filled(path, own), json=taking.body(foreign["id"]))
            nobodys = town.ask(town.bob, method, _filled(path, own), json=taking.body(missing["id"]))
            place = name, method, path, theirs.text
            if name in ("diagnostics.previous_message_id", "prompt_cache_options.comparison_response_id"):
                assert theirs.status_code == nobodys.status_code == 200, place
                assert not re.search(r'"type":"(cache_hit|cache_miss|unavailable)"|_changed', theirs.text), place
            else:
                assert theirs.status_code in (400, 404), place
                assert said(theirs, foreign) == said(nobodys, missing), place
            assert SECRET not in theirs.text
    after = town.tree()
    assert {name: data for name, data in after.items() if name in before} == before
    assert not [name for name, data in after.items() if name not in before and SECRET.encode() in data]


def test_what_is_asked_of_a_model_has_nothing_of_anothers(town: Town) -> None:
    """The engine is asked what a key is told: with foreign ids that is nothing."""
    asked = len(town.world.engine.requests)
    for body in (
        _answered(previous_response_id=town.alice.has["response_id"]),
        _answered(conversation=town.alice.has["conversation_id"]),
        _answered(input=[{"type": "item_reference", "id": town.alice.has["item_id"]}]),
    ):
        for store in (True, False):
            assert town.ask(town.bob, "POST", "/v1/responses", json={**body, "store": store}).status_code == 404
    assert len(town.world.engine.requests) == asked


def test_no_comparison_tells_what_another_has_asked(town: Town) -> None:
    options = {"prompt_cache_options": {"comparison_response_id": town.alice.has["response_id"]}}
    body = {"model": "tiny", "input": SECRET, **options}
    told = [town.made(party, "/v1/responses", body)["prompt_cache_diagnostics"] for party in (town.alice, town.bob)]
    assert told[0]["type"] != "comparison_response_not_found"
    assert told[1] == {"type": "comparison_response_not_found"}
    asked = {**_MODEL, "messages": [{"role": "user", "content": SECRET}], "diagnostics": {"previous_message_id": None}}
    first = town.made(town.alice, "/v1/messages", asked)["id"]
    again = {**asked, "diagnostics": {"previous_message_id": first}}
    told = [town.made(party, "/v1/messages", again)["diagnostics"] for party in (town.alice, town.bob, town.boss)]
    nothing = {"cache_miss_reason": {"type": "previous_message_not_found"}}
    assert told == [None, nothing, nothing]


def test_an_owner_uses_its_own(town: Town) -> None:
    """So that what is refused above is refused for whose it is."""
    has = town.alice.has
    for fields in (
        {"previous_response_id": has["response_id"]},
        {"conversation": has["conversation_id"]},
        {"input": [{"type": "item_reference", "id": has["item_id"]}]},
    ):
        assert town.made(town.alice, "/v1/responses", _answered(**fields))["status"] == "completed"
    town.made(town.alice, "/v1/threads", {"messages": [_held(has["file_id"])], "assistants": [has["assistant_id"]]})


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_anothers_id_as_a_cursor_is_one_that_never_was(town: Town, cursor: str) -> None:
    for path, place in (
        ("/v1/threads", "thread_id"),
        ("/v1/conversations", "conversation_id"),
        ("/v1/files", "file_id"),
        ("/v1/assistants", "assistant_id"),
        ("/v1/chat/completions", "completion_id"),
    ):
        foreign = town.alice.has[place]
        asked = {cursor: foreign, "limit": 5}
        theirs = town.ask(town.bob, "GET", path, query_string=asked)
        nobodys = town.ask(town.bob, "GET", path, query_string={**asked, cursor: never_was(foreign)})
        assert said(theirs, {}) == said(nobodys, {}), path


def test_a_branch_is_of_ones_own_and_nothing_shows_anothers(town: Town) -> None:
    has, before = town.alice.has, town.tree()
    mine = town.made(town.bob, "/v1/threads", {"messages": [_HI]})["id"]
    for name in (has["message_id"], never_was(has["message_id"])):
        refusal = town.ask(town.bob, "POST", f"/v1/threads/{mine}/branch", json={"before": name})
        assert (refusal.status_code, refusal.text.replace(name, "")) == (400, refusal.text.replace(name, ""))
    hidden = {"metadata": {"branch_root": has["thread_id"]}}
    town.made(town.bob, f"/v1/threads/{mine}", hidden)  # a claim that is not so hides nothing, and shows nothing
    listed = [
        town.ask(town.bob, "GET", "/v1/threads", query_string=query).json
        for query in ({"branches": "false"}, {"branches_of": has["thread_id"]})
    ]
    assert [[thread["id"] for thread in found or ()] for found in listed] == [[mine], [mine]]
    theirs = town.ask(town.alice, "GET", "/v1/threads", query_string={"branches_of": has["thread_id"]}).json
    assert [thread["id"] for thread in theirs or ()] == [has["thread_id"]]
    assert {name: data for name, data in town.tree().items() if name in before} == before
    branch = town.made(town.alice, f"/v1/threads/{has['thread_id']}/branch", {})["id"]
    assert town.ask(town.bob, "GET", f"/v1/threads/{branch}").status_code == 404
    assert town.ask(town.alice, "GET", f"/v1/threads/{branch}").status_code == 200
    own = town.made(town.boss, f"/v1/threads/{has['thread_id']}/branch", {})["id"]
    assert town.ask(town.alice, "GET", f"/v1/threads/{own}").status_code == 404, "who made it has it"


# --- whose a thing is -------------------------------------------------------------------------------------------------


def test_an_id_that_is_taken_is_refused_and_left(town: Town) -> None:
    before = town.tree()
    for path, body in (
        ("/v1/threads", {"id": town.alice.has["thread_id"]}),
        ("/v1/assistants", {"id": town.alice.has["assistant_id"], "model": "tiny"}),
        ("/v1/threads/runs", {"model": "tiny", "thread": {"id": town.alice.has["thread_id"], "messages": [_HI]}}),
    ):
        assert town.ask(town.bob, "POST", path, json=body).status_code == 409
    assert town.tree() == before


def test_no_client_sets_whose_a_thing_is(town: Town) -> None:
    owner = {"owner": town.alice.key_id}
    thread = town.made(town.bob, "/v1/threads", {**owner, "metadata": owner})["id"]
    town.made(town.bob, f"/v1/threads/{thread}", {**owner, "metadata": owner})
    assistant = town.made(town.bob, "/v1/assistants", {**owner, "model": "tiny", "metadata": owner})["id"]
    town.made(town.bob, f"/v1/assistants/{assistant}", {**owner, "metadata": owner})
    for path in (f"/v1/threads/{thread}", f"/v1/assistants/{assistant}"):
        assert town.ask(town.alice, "GET", path).status_code == 404
        found = town.ask(town.bob, "GET", path).json
        assert found is not None
        assert "owner" not in found
        assert found["metadata"] == owner, "that is the client's own word"


def test_everybodys_assistants_are_used_by_all_and_changed_by_the_administrator(town: Town) -> None:
    shared = town.made(town.boss, "/v1/assistants", {"instructions": "Be kind.", "model": "tiny"})["id"]
    before = town.tree()
    for name in ("jan", shared):
        path = f"/v1/assistants/{name}"
        assert town.ask(town.bob, "GET", path).status_code == 200
        for method in ("POST", "PATCH"):
            assert code(town.ask(town.bob, method, path, json={"name": "mine"})) == (403, "missing_scope")
        assert code(town.ask(town.bob, "DELETE", path)) == (403, "missing_scope")
        town.made(town.bob, "/v1/threads/runs", {"assistant_id": name, "model": "tiny", "thread": {"messages": [_HI]}})
    assert {name: data for name, data in town.tree().items() if name in before} == before
    listed = town.ask(town.bob, "GET", "/v1/assistants").json
    assert {"jan", shared} == {assistant["id"] for assistant in (listed or {})["data"]}
    assert town.made(town.boss, f"/v1/assistants/{shared}", {"name": "Kind"})["name"] == "Kind"
    assert town.ask(town.boss, "DELETE", f"/v1/assistants/{town.alice.has['assistant_id']}").status_code == 200


def test_a_revoked_keys_things_are_the_administrators(town: Town) -> None:
    town.file.change(lambda keyring: keyring.without(town.alice.key_id))
    path = f"/v1/threads/{town.alice.has['thread_id']}"
    assert town.ask(town.alice, "GET", path).status_code == 401
    assert town.ask(town.bob, "GET", path).status_code == 404
    assert town.ask(town.boss, "GET", path).status_code == 200


def test_what_was_before_keys_is_the_administrators(world: World) -> None:
    with running_app(world) as app:
        client = app.test_client()
        thread = (client.post("/v1/threads", json={"messages": [_HI]}).json or {})["id"]
        town = _town(world, app)
        path = f"/v1/threads/{thread}"
        assert [town.ask(party, "GET", path).status_code for party in (town.bob, town.boss)] == [404, 200]
        town.file.change(lambda keyring: type(keyring)())
        assert client.get(path).status_code == 200, "without keys everything is everybody's"
        assert client.get(f"/v1/threads/{town.alice.has['thread_id']}").status_code == 200


def test_an_administrators_answer_behind_anothers_is_its_own(town: Town) -> None:
    previous = town.alice.has["response_id"]
    before = ids.thread_of(previous)
    made = town.made(town.boss, "/v1/responses", _answered(previous_response_id=previous))["id"]
    assert ids.thread_of(made) != before
    assert town.ask(town.alice, "GET", f"/v1/responses/{made}").status_code == 404
    again = town.made(town.boss, "/v1/responses", _answered(previous_response_id=made))["id"]
    assert ids.thread_of(again) == ids.thread_of(made), "its own goes on where it is"


def test_a_file_is_its_owners_to_delete_though_an_administrator_holds_it(town: Town) -> None:
    """Who holds it is told only of threads that are to be seen."""
    has = town.alice.has
    held = town.made(town.boss, "/v1/threads", {"messages": [_held(has["file_id"])]})["id"]
    path = f"/v1/files/{has['file_id']}"
    refused = town.ask(town.alice, "DELETE", path)
    assert (refused.status_code, has["thread_id"] in refused.text, held in refused.text) == (409, True, False)
    town.ask(town.alice, "DELETE", f"/v1/threads/{has['thread_id']}/messages/{has['message_id']}")
    assert town.ask(town.boss, "DELETE", path).status_code == 409
    assert town.ask(town.alice, "DELETE", path).status_code == 200
    assert town.ask(town.boss, "GET", f"/v1/threads/{held}/messages").status_code == 200


def test_a_run_works_for_whoever_asked_for_it(town: Town) -> None:
    thread = ids.thread_id(town.alice.has["conversation_id"])
    run = town.made(town.boss, f"/v1/threads/{thread}/runs", {"model": "tiny"})
    assert town.ask(town.alice, "GET", f"/v1/threads/{thread}/runs/{run['id']}").status_code == 200
    stored = json.loads(town.tree()[f"threads/{thread}/runs/{run['id']}.json"])
    assert stored["key_id"] == town.boss.key_id


# --- in and out -------------------------------------------------------------------------------------------------------


def test_an_export_has_ones_own_and_not_whose_it_is(town: Town) -> None:
    archive = town.ask(town.alice, "GET", "/v1/threads/export").data
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert f"threads/{town.alice.has['thread_id']}/thread.json" in names
    assert town.alice.key_id not in _unpacked_zip(archive)
    path = f"/v1/threads/{town.alice.has['thread_id']}/export"
    assert town.alice.key_id not in town.ask(town.alice, "GET", path).text
    theirs = zipfile.ZipFile(io.BytesIO(town.ask(town.bob, "GET", "/v1/threads/export").data)).namelist()
    assert [name for name in theirs if not name.endswith("/")] == ["assistants/jan/assistant.json"]


def test_an_import_is_the_importers_whatever_it_says(town: Town) -> None:
    document = town.ask(town.alice, "GET", f"/v1/threads/{town.alice.has['thread_id']}/export").json
    assert document is not None
    document["thread"]["owner"] = town.alice.key_id
    made = town.made(town.bob, "/v1/threads/import", document)["id"]
    assert town.ask(town.bob, "GET", f"/v1/threads/{made}").status_code == 200
    assert town.ask(town.alice, "GET", f"/v1/threads/{made}").status_code == 404
    files = (town.ask(town.bob, "GET", "/v1/files").json or {})["data"]
    assert [file["filename"] for file in files] == ["plan.txt"]


def test_an_archive_with_anothers_ids_comes_under_new_ones(town: Town) -> None:
    before, archive = town.tree(), town.ask(town.alice, "GET", "/v1/threads/export").data
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out, zipfile.ZipFile(io.BytesIO(archive)) as found:
        for name in found.namelist():
            data = found.read(name)
            if name.endswith(("thread.json", "file.json", "assistant.json")):
                data = json.dumps({**json.loads(data), "owner": town.alice.key_id}).encode()
            out.writestr(name, data)
    response = town.ask(town.bob, "POST", "/v1/threads/import", data=packed.getvalue(), content_type="application/zip")
    assert response.status_code == 200, response.text
    report = response.json or {}
    assert {town.alice.has[name] for name in ("thread_id", "file_id", "assistant_id")} <= set(report["renamed"])
    assert {name: data for name, data in town.tree().items() if name in before} == before
    for kind in ("threads", "files", "assistants"):
        for name in report[kind]:
            assert town.ask(town.bob, "GET", f"/v1/{kind}/{name}").status_code == 200
            assert town.ask(town.alice, "GET", f"/v1/{kind}/{name}").status_code == 404, (kind, name)


def test_anothers_assistant_does_not_take_jans_place(town: Town) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("assistants/jan/assistant.json", json.dumps({"id": "jan", "instructions": "Obey bob."}))
    response = town.ask(town.bob, "POST", "/v1/threads/import", data=packed.getvalue(), content_type="application/zip")
    assert response.status_code == 200, response.text
    assert (town.ask(town.alice, "GET", "/v1/assistants/jan").json or {})["instructions"] == ""
    (mine,) = (response.json or {})["assistants"]
    assert (town.ask(town.bob, "GET", f"/v1/assistants/{mine}").json or {})["instructions"] == "Obey bob."


def _filled(path: str, names: Mapping[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: {**SHARED, **names}[match[1]], path)


def _unpacked(response: TestResponse) -> str:
    return _unpacked_zip(response.data) if response.mimetype == "application/zip" else response.text


def _unpacked_zip(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return "\n".join(name + archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
