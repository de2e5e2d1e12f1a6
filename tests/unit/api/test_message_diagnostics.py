"""Messages that say why their prompt does not begin like an earlier one's, driven by Anthropic's SDK."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import Message
from flask.testing import FlaskClient

from janflask.api.plumbing.context import EXTENSION
from tests.unit.api.conftest import World

ASKED: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 20,
    "system": "Be kind.",
    "messages": [{"role": "user", "content": "Hi"}],
}
MORE = [*ASKED["messages"], {"role": "assistant", "content": "Hello world"}, {"role": "user", "content": "And?"}]


def asked(claude: anthropic.Anthropic, previous: str | None, *, stream: bool = False, **more: Any) -> Message:
    fields = {**ASKED, **more, "diagnostics": {"previous_message_id": previous}}
    if not stream:
        return claude.messages.create(**fields)
    with claude.messages.stream(**fields) as events:
        return events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_message_says_what_differs(claude: anthropic.Anthropic, stream: bool) -> None:
    first = asked(claude, None, stream=stream)
    assert first.diagnostics is None
    second = asked(claude, first.id, stream=stream, messages=MORE)
    assert second.diagnostics is None, "it goes on from there"
    for change, kind, place in (
        ({"messages": [{"role": "user", "content": "Ho"}]}, "messages_changed", "messages.0"),
        ({"system": "Be quick."}, "system_changed", "system"),
        ({"tools": [{"name": "look", "input_schema": {"type": "object"}}]}, "tools_changed", "tools.0"),
    ):
        told = asked(claude, second.id, stream=stream, **change).diagnostics
        assert told is not None
        assert told.cache_miss_reason is not None
        assert told.cache_miss_reason.type == kind
        assert told.cache_miss_reason.first_difference == place  # type: ignore[union-attr]


def test_thoughts_and_a_billing_line_make_no_difference(claude: anthropic.Anthropic) -> None:
    system = [{"type": "text", "text": f"x-anthropic-billing-header: {number}\nBe kind."} for number in range(2)]
    first = asked(claude, None, system=system[:1])
    assert asked(claude, first.id, system=system[1:], messages=MORE).diagnostics is None


def test_one_that_nobody_kept_is_not_found(claude: anthropic.Anthropic) -> None:
    silent = claude.messages.create(**ASKED)
    for name in (silent.id, "msg_none", "../../x"):
        told = asked(claude, name).diagnostics
        assert told is not None
        assert told.cache_miss_reason is not None
        assert told.cache_miss_reason.type == "previous_message_not_found"


def test_nothing_is_kept_for_those_who_do_not_ask(client: FlaskClient, world: World) -> None:
    reply = client.post("/v1/messages", json=ASKED)
    assert "diagnostics" not in reply.get_json()
    assert not (world.settings.cache_dir / "prompts").exists()
    refused = client.post("/v1/messages", json={**ASKED, "diagnostics": {"previous_message_id": 7}})
    assert refused.status_code == 400
    assert "diagnostics.previous_message_id" in refused.get_json()["error"]["message"]


def test_the_settings_of_the_template_differ(claude: anthropic.Anthropic, app: Any) -> None:
    first = asked(claude, None)
    told = asked(claude, first.id, thinking={"type": "disabled"}).diagnostics
    assert told is not None
    assert told.cache_miss_reason is not None
    assert told.cache_miss_reason.type == "unavailable"
    assert app.extensions[EXTENSION].cache_diagnostics.kept(first.id).tokens == 7
