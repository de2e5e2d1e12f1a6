"""A server whose model was trained to call tools, and a conversation in which it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import link_or_copy
from tests.e2e.server import Server, serving
from tools.tool_model import QWEN

MODEL = QWEN.id
QUESTION = "Call get_weather for {} and tell me what it says."
# With this turn before it the model calls when it is asked to, and says in words what it was told. Without, it is too
# small for that: it tends to call again and again.
EARLIER: list[dict[str, Any]] = [
    {"role": "user", "content": QUESTION.format("Oslo")},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call00001",  # nine letters and digits, as Mistral's templates want them
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call00001", "content": "rain, 8 degrees"},
    {"role": "assistant", "content": "It is raining in Oslo, and it is 8 degrees."},
]
TALK: dict[str, Any] = {
    "earlier": EARLIER,
    "question": QUESTION.format("Paris"),
    "weather": {"Paris": "snow, -3 degrees"},
    "describe": "Paris is the capital of France. Give its name and its country as JSON.",
}


@contextmanager
def serving_tool_model(folder: Path, gguf: Path) -> Iterator[Server]:
    """The server, with the model running. ``folder`` is to be empty."""
    model = folder / "data" / "models" / MODEL
    model.mkdir(parents=True)
    link_or_copy(gguf, model / QWEN.filename)
    (model / "model.json").write_text(json.dumps({"id": MODEL, "settings": {"llama_model_path": QWEN.filename}}))
    settings = {"JANFLASK_CTX_LEN": "4096", "JANFLASK_N_PARALLEL": "2", "JANFLASK_CPU_THREADS": "2"}
    with serving(folder / "data", **settings) as server:
        server.start(MODEL).raise_for_status()
        yield server
