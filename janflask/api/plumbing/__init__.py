"""What every route stands on: blueprints, errors, uploads, server-sent events.

``access``: Who may use a route: the key that a request brings, and the scopes that the operation asks for
``blueprint``: flask-smorest's Blueprint and Api, with this API's own rules for bodies and errors
``body_timeout``: A client that stops in the middle of a request's body, or sends nonsense, neither holds a thread nor
    is our error
``content_encoding``: Bodies that come packed (``Content-Encoding: gzip``) are unpacked while they are read
``context``: What a view needs of the application it runs in
``converters``: What may stand in a route
``counting``: Every request is counted, and logged, by its route: from its headers to the last byte of its answer
``dialects``: Whose API the current request speaks: OpenAI's, or Anthropic's, whose clients read errors of another shape
``errors``: Every error as OpenAI's error object (or Anthropic's): no HTML, no traceback, of an unexpected one only an
    id
``guards``: What a browser is told of every answer: not to run it, frame it, embed it, keep it, or guess what it is
``idempotency``: ``Idempotency-Key``: a POST that stores something has its effect once, and its answer is given again
    for a day
``limits``: A key's limits, in front of every route: 429 where they are reached, and what is left in each answer's
    headers
``openapi``: The OpenAPI document around the operations: what this is, and the objects that appear in no operation yet
``origins``: Which web pages may use the server: by the ``Host`` they call it, and by the ``Origin`` they come from
``proxies``: What a proxy in front tells of a request: who sent it, and below which path it came
``quota``: What is stored may take so much of the disk: beyond it nothing new is taken, and what is there can be deleted
``response``: JSON responses
``sse``: Server-sent events: a stream of them, and one streamed answer from its first byte to ``[DONE]``
``storing``: Whether a request is to store something
``traces``: A span for every request, where traces are wanted
``unread_body``: What an answer did not need of its request's body does not stand in the way of the next request
``uploads``: Files that come as multipart/form-data: from the connection into the store in pieces, written once
"""
