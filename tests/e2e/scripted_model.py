"""A server whose model is a script behind an upstream: what a client gets is ours, and no model's luck decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.server import Server, serving
from tests.fakes import openai_server
from tests.fakes.openai_server import FakeUpstream, Handler, call_piece, events, piece, says

MODEL = "scripted"
CTX_LEN = 32768
SAYS = "It is written."


@dataclass(frozen=True)
class Scripted:
    """The server, and what its model was asked."""

    server: Server
    model: FakeUpstream

    def asked(self) -> list[dict[str, Any]]:
        return [post.body for post in self.model.posts]


def calls_once(name: str, arguments: dict[str, Any]) -> Callable[[Handler], None]:
    """The model calls the function ``name`` where it is offered and has no result yet; else it says SAYS."""
    written = json.dumps(arguments)
    half = len(written) // 2
    call = events(
        call_piece(written[:half], name, id="call_1", type="function"),
        call_piece(written[half:]),
        piece(reason="tool_calls"),
        openai_server.USAGE,
    )

    def act(handler: Handler) -> None:
        offered = {tool["function"]["name"] for tool in handler.body.get("tools", [])}
        answered = any(message["role"] == "tool" for message in handler.body["messages"])
        (call if name in offered and not answered else says(SAYS[:3], SAYS[3:]))(handler)

    return act


@contextmanager
def serving_scripted_model(folder: Path, behaviour: Callable[[Handler], None], name: str = MODEL) -> Iterator[Scripted]:
    """``folder`` is to be empty; ``name`` is the model's id."""
    with openai_server.serving([behaviour]) as model:
        entry = folder / "data" / "models" / name / "model.json"
        entry.parent.mkdir(parents=True)
        upstream = {"base_urls": [model.base_url], "model": "far", "ctx_len": CTX_LEN}
        entry.write_text(json.dumps({"id": name, "upstream": upstream}))
        with serving(folder / "data") as server:
            yield Scripted(server, model)
