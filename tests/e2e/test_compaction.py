"""Compaction and cache diagnostics with the official SDKs, on the real server and a real model."""

from __future__ import annotations

from typing import Any

import openai

from tests.e2e.server import MODEL, Server
from tests.unit.api.responses import checked, kinds, strict, told

LONG = "The harbour of the old town has forty blue boats, and the keeper of its lighthouse is called Anna. " * 24
ASKED: dict[str, Any] = {"model": MODEL, "max_output_tokens": 12, "temperature": 0}
MANAGED: Any = [{"type": "compaction", "compact_threshold": 200}]


def test_a_long_conversation_is_summed_up_and_gone_on_with(sdk: openai.OpenAI, server: Server) -> None:
    first = strict(sdk.responses.create(**ASKED, input=LONG))
    asked = {**ASKED, "input": "Who is Anna?", "previous_response_id": first.id, "context_management": MANAGED}
    events = checked(sdk.responses.create(**asked, stream=True))
    final = strict(events[-1].response)
    assert [item.type for item in final.output] == ["compaction", "message"]
    assert kinds(events)[:4] == ["created", "in_progress", "output_item.added", "output_item.done"]
    again = checked(sdk.responses.retrieve(final.id, stream=True))
    assert told(again) == told(events)
    assert [item.type for item in sdk.responses.retrieve(final.id).output] == ["compaction", "message"]

    # What comes next is shown the summary: its prompt is shorter than the whole conversation, since a summary has 256
    # tokens at most here, and the first question 500.
    following = strict(sdk.responses.create(**ASKED, input="And her boats?", previous_response_id=final.id))
    assert following.usage is not None
    assert first.usage is not None
    assert following.usage.input_tokens < first.usage.input_tokens
    # Nothing is deleted: the thread has everything.
    items = server.get(f"/v1/conversations/{conversation_of(following)}/items?limit=100&order=asc").json()["data"]
    assert [item["type"] for item in items].count("compaction") == 1
    assert LONG in str(items[0])


def conversation_of(answer: Any) -> str:
    return str(answer.to_dict()["thread_id"]).replace("thread_", "conv_", 1)


def test_one_that_is_compacted_by_itself(sdk: openai.OpenAI) -> None:
    talk: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "I see. " * 50}]
    compacted = sdk.responses.compact(model=MODEL, input=talk)
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    assert compacted.usage.output_tokens > 0
    more: Any = told(compacted.output)
    answer = sdk.responses.create(**ASKED, store=False, input=[*more, {"role": "user", "content": "Who is Anna?"}])
    assert answer.output_text


def test_why_a_prompt_was_computed_anew(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(**ASKED, input=LONG, instructions="Be brief.")
    compare: Any = {"comparison_response_id": first.id}
    following = strict(
        sdk.responses.create(
            **ASKED,
            input="Go on.",
            instructions="Be brief.",
            previous_response_id=first.id,
            prompt_cache_options=compare,
        )
    )
    assert following.prompt_cache_diagnostics is not None
    assert following.prompt_cache_diagnostics.type == "cache_hit"
    other = strict(
        sdk.responses.create(**ASKED, input=LONG, instructions="Be very kind.", prompt_cache_options=compare)
    )
    assert other.prompt_cache_diagnostics is not None
    assert other.prompt_cache_diagnostics.type == "cache_miss"
    assert other.prompt_cache_diagnostics.reason == "input_changed"
    assert other.prompt_cache_diagnostics.to_dict()["first_difference"] == "instructions"
