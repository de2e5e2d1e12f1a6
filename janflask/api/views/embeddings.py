"""POST /embeddings."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

import msgspec
from flask import Response

from janflask.access.scopes import Scope
from janflask.api.examples import inference as examples
from janflask.api.plumbing.blueprint import Blueprint
from janflask.api.plumbing.context import services, waiter
from janflask.api.plumbing.response import streamed_list
from janflask.inference.requests import EmbeddingRequest
from janflask.schemas.embeddings import EmbeddingListSchema, EmbeddingRequestSchema

blp = Blueprint(
    "Embeddings",
    __name__,
    url_prefix="/v1",
    needs=Scope.INFERENCE,
    description="Texts as vectors, to compare and to search.",
)


@blp.route("/embeddings", methods=["POST"])
@blp.doc(operationId="createEmbedding")
@blp.arguments(EmbeddingRequestSchema, example=examples.EMBEDDING_REQUEST)
@blp.response(200, EmbeddingListSchema, description="A vector for each input.", example=examples.EMBEDDING_ANSWER)
@blp.refuses(400, 404, 409, 413, 415, 429, 500, 503)
def create_embedding(body: EmbeddingRequest) -> Response:
    """Create embeddings

    Makes a vector of length 1 of each input; the nearer two texts are in meaning, the larger their vectors' dot
    product. An embedding model does it as its file says. A model that generates text does it too if its setting
    `embedding` is true, less well. A model that is on disk and not running is started.
    """
    answer = services().backends.of(body.model).embed(body, waiter())
    usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
    after = msgspec.json.encode({"model": body.model, "usage": usage})
    vectors = (_embedding(index, vector, body.base64) for index, vector in enumerate(answer.vectors))
    return streamed_list(vectors, b'{"object":"list","data":', b"," + after[1:])


def _embedding(index: int, vector: bytes, base64: bool) -> dict[str, Any]:
    numbers = b64encode(vector).decode() if base64 else struct.unpack(f"<{len(vector) // 4}f", vector)
    return {"object": "embedding", "index": index, "embedding": numbers}
