"""Examples for the OpenAPI document. A test loads the requests with their schemas and compares the answers' fields."""

from __future__ import annotations

import json
from typing import Any

MODEL_ID = "smollm2-135m-instruct"
EMBEDDING_MODEL_ID = "nomic-embed-text-v1.5"
CREATED = 1_700_000_000

CHAT_REQUEST: dict[str, Any] = {
    "model": MODEL_ID,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "max_tokens": 64,
    "temperature": 0.8,
    "stream": False,
}
_USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 8,
    "total_tokens": 39,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
_TIMINGS = {
    "queue_ms": 0.2,
    "cache_n": 20,
    "prompt_n": 11,
    "prompt_ms": 14.6,
    "prompt_per_second": 753.4,
    "predicted_n": 8,
    "predicted_ms": 41.3,
    "predicted_per_second": 193.7,
}
_FINGERPRINT = "janflask-0.1.0"


def _answer(prefix: str, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-5f2b9c41d8e07a63b1c2d3e4",
        "object": kind,
        "created": CREATED,
        "model": MODEL_ID,
        "system_fingerprint": _FINGERPRINT,
        "choices": choices,
    }


def _whole(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "usage": _USAGE, "timings": _TIMINGS}


def _events(*objects: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(item)}\n\n" for item in objects) + "data: [DONE]\n\n"


def _chat_chunk(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _answer("chatcmpl", "chat.completion.chunk", [choice])


def _completion(text: str, reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return _answer("cmpl", "text_completion", [choice])


CHAT_ANSWER = _whole(
    _answer(
        "chatcmpl",
        "chat.completion",
        [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital of France is Paris.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    )
)
CHAT_STREAM = _events(
    _chat_chunk({"role": "assistant", "content": "", "refusal": None}, None),
    _chat_chunk({"content": "Paris"}, None),
    {**_chat_chunk({}, "stop"), "timings": _TIMINGS},
)
COMPLETION_REQUEST: dict[str, Any] = {"model": MODEL_ID, "prompt": "The capital of France is", "max_tokens": 8}
COMPLETION_ANSWER = _whole(_completion(" Paris.", "stop"))
COMPLETION_STREAM = _events(_completion(" Paris.", None), {**_completion("", "stop"), "timings": _TIMINGS})

TOKENIZE_REQUEST: dict[str, Any] = {"model": MODEL_ID, "content": "Hello world", "with_pieces": False}
TOKENIZE_ANSWER: dict[str, Any] = {"tokens": [19556, 905], "count": 2}
DETOKENIZE_REQUEST: dict[str, Any] = {"model": MODEL_ID, "tokens": [19556, 905]}
DETOKENIZE_ANSWER: dict[str, Any] = {"content": "Hello world"}
INPUT_TOKENS_REQUEST: dict[str, Any] = {
    "model": MODEL_ID,
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather of a city",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
}
INPUT_TOKENS: dict[str, Any] = {
    "object": "response.input_tokens",
    "input_tokens": 183,
    "estimated": False,
    "ctx_len": 8192,
    "tokens_left": 8009,
}
TEMPLATE_REQUEST: dict[str, Any] = {
    "model": MODEL_ID,
    "messages": [{"role": "user", "content": "Hi"}],
    "tokenize": False,
}
TEMPLATE_ANSWER: dict[str, Any] = {"prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"}

EMBEDDING_REQUEST: dict[str, Any] = {
    "model": EMBEDDING_MODEL_ID,
    "input": ["The cat sat on the mat", "A feline was resting on a rug"],
    "encoding_format": "float",
}
EMBEDDING_ANSWER: dict[str, Any] = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 0, "embedding": [0.0179, -0.0321, 0.0458]},
        {"object": "embedding", "index": 1, "embedding": [0.0203, -0.0287, 0.0412]},
    ],
    "model": EMBEDDING_MODEL_ID,
    "usage": {"prompt_tokens": 17, "total_tokens": 17},
}

HEALTH = {"status": "ok", "version": "0.1.0", "models_running": 1}
LIVE = {"status": "ok"}
METRICS = """\
# HELP janflask:num_requests_running Answers that are being computed.
# TYPE janflask:num_requests_running gauge
janflask:num_requests_running{model_name="smollm2-135m-instruct"} 2.0
"""
READY = {"status": "ready", "draining": False, "missing": []}
NOT_READY: dict[str, Any] = {
    "status": "not_ready",
    "draining": False,
    "missing": [{"kind": "model", "name": "tiny", "reason": "starting"}],
}

THREAD_ID, MESSAGE_ID, FILE_ID = "thread_abc123", "msg_abc123", "file-abc123"
MESSAGE_REQUEST: dict[str, Any] = {"role": "user", "content": "How does AI work? Explain it in simple terms."}
MESSAGE_CHANGES: dict[str, Any] = {"metadata": {"starred": "yes"}}
MESSAGE: dict[str, Any] = {
    "id": MESSAGE_ID,
    "object": "thread.message",
    "created_at": CREATED,
    "thread_id": THREAD_ID,
    "role": "user",
    "content": [
        {"type": "text", "text": {"value": "How does AI work? Explain it in simple terms.", "annotations": []}}
    ],
    "file_ids": [],
    "attachments": [],
    "assistant_id": None,
    "run_id": None,
    "status": "completed",
    "incomplete_details": None,
    "completed_at": None,
    "incomplete_at": None,
    "metadata": {},
}
MESSAGE_DELETED = {"id": MESSAGE_ID, "object": "thread.message.deleted", "deleted": True}
MESSAGE_FILE = {"id": FILE_ID, "object": "thread.message.file", "created_at": CREATED, "message_id": MESSAGE_ID}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [item], "has_more": False, "first_id": item["id"], "last_id": item["id"]}


MESSAGE_LIST = _page(MESSAGE)
MESSAGE_FILE_LIST = _page(MESSAGE_FILE)

THREAD_REQUEST: dict[str, Any] = {
    "title": "A first talk",
    "messages": [MESSAGE_REQUEST],
    "metadata": {"topic": "AI"},
    "parameters": {"temperature": 0.7},
}
THREAD_CHANGES: dict[str, Any] = {"title": "A second look", "settings": {"ctx_len": 4096}}
THREAD_ASSISTANT_CHANGES: dict[str, Any] = {"instructions": "Be brief.", "model": {"id": MODEL_ID}}
_LISTED_THREAD: dict[str, Any] = {
    "id": THREAD_ID,
    "object": "thread",
    "title": "A first talk",
    "summary": "",
    "assistants": [
        {"assistant_id": "jan", "assistant_name": "Jan", "instructions": "", "model": {"id": MODEL_ID}},
    ],
    "created": CREATED,
    "created_at": CREATED,
    "updated": CREATED,
    "metadata": {"topic": "AI"},
    "model_id": None,
    "settings": {},
    "parameters": {"temperature": 0.7},
    "tool_resources": {},
}
THREAD_LIST = [_LISTED_THREAD]
THREAD: dict[str, Any] = {**_LISTED_THREAD, "messages": [MESSAGE_ID]}
WHOLE_THREAD: dict[str, Any] = {**_LISTED_THREAD, "messages": [MESSAGE]}
THREAD_BRANCH_REQUEST = {"before": MESSAGE_ID}
THREAD_BRANCH: dict[str, Any] = {
    **_LISTED_THREAD,
    "id": "thread_abc456",
    "metadata": {"topic": "AI", "branch_root": THREAD_ID, "branch_parent": THREAD_ID, "branch_after": ""},
    "messages": [],
}
THREAD_DELETED = {"id": THREAD_ID, "object": "thread.deleted", "deleted": True}
ARCHIVE = "PK..."
THREAD_DOCUMENT: dict[str, Any] = {
    "object": "thread.export",
    "version": 1,
    "exported_at": CREATED,
    "thread": {"id": THREAD_ID, "title": "A first talk", "created": CREATED * 1000},
    "messages": [
        {
            "id": MESSAGE_ID,
            "role": "user",
            "created": CREATED * 1000,
            "content": [{"type": "text", "text": {"value": "How does AI work?", "annotations": []}}],
        }
    ],
    "thread_files": [],
    "files": [],
}
IMPORT_REPORT: dict[str, Any] = {
    "object": "thread.import",
    "threads": [THREAD_ID],
    "assistants": [],
    "files": [FILE_ID],
    "renamed": {},
    "skipped": [{"path": "threads/broken/thread.json", "reason": "it is not valid JSON"}],
}


def _error(message: str, code: str, param: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


# status -> (what it means, an example)
ERRORS: dict[int, tuple[str, dict[str, Any]]] = {
    400: (
        "The request is malformed or invalid.",
        _error("temperature must be from 0 to 2, not 3", "invalid_value", "temperature"),
    ),
    401: (
        "The request has no API key, or one that does not hold.",
        _error("this API key is none of the server's, or it was revoked", "invalid_api_key"),
    ),
    403: (
        "The request's key is not good for this, the request is for a host that is not this server's, or a web page "
        "from elsewhere wants to change something.",
        _error(
            "this server is not called 'example.com': if it is, list that name in JANFLASK_ALLOWED_HOSTS",
            "unknown_host",
        ),
    ),
    404: (
        "There is nothing of that name.",
        _error("there is no model 'x' on this server; GET /v1/models lists them", "model_not_found", "model"),
    ),
    408: (
        "The client stopped in the middle of the body.",
        _error(
            "nothing more of the request's body came for 60 s (JANFLASK_UPLOAD_TIMEOUT): send it again",
            "request_timeout",
        ),
    ),
    409: (
        "The object is in the wrong state for the request, or its id is taken.",
        _error(
            "m is not running and automatic start is off: PUT /v1/models/m/start first", "model_not_running", "model"
        ),
    ),
    413: (
        "The body, or a part of it, is too large.",
        _error("the request's body is larger than 32 MiB", "request_too_large"),
    ),
    415: (
        "The body's content type is not one that is wanted here.",
        _error(
            "the body's content type is text/plain: send JSON with Content-Type: application/json",
            "unsupported_media_type",
        ),
    ),
    416: (
        "The file has no such range.",
        _error("The server cannot provide the requested range.", "invalid_request"),
    ),
    429: (
        "Too many requests wait for the model, or the key's limits are reached; `Retry-After` says when to try again.",
        _error("64 requests wait for this model already: try again in a second", "queue_full", kind="rate_limit_error"),
    ),
    500: (
        "The server failed; its log tells more.",
        _error("the model's file is truncated: download it again", "model_load_failed", kind="server_error"),
    ),
    503: (
        "Something is not there right now; `Retry-After` says when to try again.",
        _error("the supervisor cannot be reached; try again in a second", "unavailable", kind="server_error"),
    ),
    507: (
        "The disk or a quota is full; nothing was changed.",
        _error(
            "the disk is full: free some space, then send the request again",
            "insufficient_storage",
            kind="server_error",
        ),
    ),
}
