"""What every route stands on: blueprints, errors, uploads, server-sent events.

``blueprint``: flask-smorest's Blueprint and Api, with this API's own rules for bodies and errors
``body_timeout``: A client that stops in the middle of a request's body, or sends nonsense, neither holds a thread nor
    is our error
``content_encoding``: Bodies that come packed (``Content-Encoding: gzip``) are unpacked while they are read
``context``: What a view needs of the application it runs in
``converters``: What may stand in a route
``dialects``: Whose API the current request speaks: OpenAI's, or Anthropic's, whose clients read errors of another shape
``errors``: Every error as OpenAI's error object (or Anthropic's): no HTML, no traceback, of an unexpected one only an
    id
``openapi``: The OpenAPI document around the operations: what this is, and the objects that appear in no operation yet
``origins``: Which web pages may use the server: by the ``Host`` they call it, and by the ``Origin`` they come from
``response``: JSON responses
``sse``: Server-sent events: a stream of them, and one streamed answer from its first byte to ``[DONE]``
``unread_body``: What an answer did not need of its request's body does not stand in the way of the next request
``uploads``: Files that come as multipart/form-data: from the connection into the store in pieces, written once
"""
