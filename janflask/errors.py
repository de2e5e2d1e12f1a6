"""Every error janflask answers with, in one tree.

An error carries what HTTP needs (``status``), what OpenAI's clients read (``type``, ``code``, ``param``) and a message
that says what was wrong and what to do about it. The same fields cross the process boundary as an ``ErrorReply`` frame,
and the class with them, so an error raised in an engine reaches the HTTP client unchanged, and whoever is in between
can catch it by its class.
"""

from __future__ import annotations

from typing import Self

_BY_CODE: dict[str, type[JanflaskError]] = {}  # each class by the code of its own


class JanflaskError(Exception):
    """Base of the tree. Each class has a ``code`` of its own, by which it is found again in another process.

    Attributes:
        status: HTTP status code.
        type: OpenAI's error family (``invalid_request_error``, ``server_error``, ...).
        code: a stable machine-readable word, or None.
        param: the request field the error is about, or None.
        retry_after: seconds after which a retry makes sense (sent as ``Retry-After``), or None.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None

    def __init_subclass__(cls) -> None:
        """Raises TypeError for a code that another class has; one without its own is its parent to other processes."""
        super().__init_subclass__()
        own = cls.__dict__.get("code")
        if own is not None and _BY_CODE.setdefault(own, cls) is not cls:
            raise TypeError(f"{cls.__name__} and {_BY_CODE[own].__name__} have the same code, {own!r}")

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        if code is not None:
            self.code = code


class SettingsError(JanflaskError):
    """A ``JANFLASK_*`` variable has a value that cannot be used. Raised at start-up."""

    code = "invalid_setting"


# --- the client's doing (4xx) -----------------------------------------------------------------------------------


class InvalidRequestError(JanflaskError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ContextLengthExceededError(InvalidRequestError):
    """A prompt and room for an answer are more than the model's context; ``of`` makes its message."""

    code = "context_length_exceeded"

    @classmethod
    def of(cls, tokens: int, context: int, advice: str, *, param: str | None = None) -> Self:
        """For a prompt of ``tokens`` in a context of ``context`` tokens; ``advice`` is a sentence on what would help.

        Clients tell this error from others by words of the message alone, each by other words: Anthropic's come first,
        then OpenAI's of an error within a stream, then those of a refusal. A prompt that is just as long as the context
        leaves no token for the answer.
        """
        return cls(
            f"prompt is too long: {tokens} tokens > {min(context, tokens - 1)} maximum. It exceeds the context window: "
            f"this model's maximum context length is {context} tokens. {advice}",
            param=param,
        )


class InvalidEncryptedContentError(InvalidRequestError):
    """What this server sealed comes back changed, in another place, or is not its own."""

    code = "invalid_encrypted_content"


class TemplateGivenUpError(InvalidRequestError):
    """A chat template ran too long over a conversation, or needed too much memory: with less of it, it may do."""


class UnauthorizedError(InvalidRequestError):
    """The request has no key, or none that holds here."""

    status = 401
    code = "invalid_api_key"


class ForbiddenError(InvalidRequestError):
    """Whoever sent the request may not."""

    status = 403
    code = "forbidden"


class ForeignOriginError(ForbiddenError):
    """A web page from elsewhere wants to change something here."""

    code = "foreign_origin"


class UnknownHostError(ForbiddenError):
    """The request is for a host that this server is not."""

    code = "unknown_host"


class MissingScopeError(ForbiddenError):
    """The request's key is not good for this."""

    code = "missing_scope"


class NotFoundError(InvalidRequestError):
    status = 404
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    code = "model_not_found"


class ConflictError(InvalidRequestError):
    """The request is fine but the object is in the wrong state for it."""

    status = 409
    code = "conflict"


class IdempotencyKeyInUseError(ConflictError):
    """A request with the same ``Idempotency-Key`` is under way."""

    code = "idempotency_key_in_use"


class IdempotencyOutcomeUnknownError(ConflictError):
    """The request that had this ``Idempotency-Key`` was cut off: nobody knows how far it came."""

    code = "idempotency_outcome_unknown"


class IdempotencyKeyReusedError(InvalidRequestError):
    """Another request had this ``Idempotency-Key``."""

    status = 422
    code = "idempotency_key_reused"


class RequestTooLargeError(InvalidRequestError):
    """A body, a message or a file is larger than a setting allows."""

    status = 413
    code = "request_too_large"


class RequestTimeoutError(InvalidRequestError):
    """The rest of a request's body did not come; nothing of it was kept."""

    status = 408
    code = "request_timeout"


class SourceError(InvalidRequestError):
    """A model's source does not give its file; trying again would not help."""

    code = "download_failed"


class UnsafeSourceError(InvalidRequestError):
    """A URL, or where it leads, is refused."""

    code = "unsafe_source"

    def __init__(self, message: str, *, param: str | None = "source_url") -> None:
        super().__init__(message, param=param)


class DownloadCancelledError(ConflictError):
    """Somebody ended the download."""

    code = "download_cancelled"


class UnsupportedMediaTypeError(InvalidRequestError):
    status = 415
    code = "unsupported_media_type"


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The body is packed in a way that is not known here."""

    code = "unsupported_encoding"


class ClientDisconnectedError(InvalidRequestError):
    """The client closed its connection before it had its answer; nobody reads what is said to it."""

    status = 499
    code = "client_disconnected"


class QueueFullError(JanflaskError):
    """More requests wait for this model than ``JANFLASK_QUEUE_LIMIT`` allows."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class RateLimitedError(JanflaskError):
    """The request's key has used what it may."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


# --- our doing (5xx) --------------------------------------------------------------------------------------------


class EngineError(JanflaskError):
    """The engine failed while it worked on a request."""

    code = "engine_error"


class EngineCrashedError(EngineError):
    """The engine process ended in the middle of a request; the supervisor starts it again."""

    status = 503
    code = "engine_crashed"


class ModelLoadError(EngineError):
    """A model's file cannot be served: truncated, not a GGUF, too big, an unknown architecture."""

    code = "model_load_failed"


class ModelStoppedError(EngineError):
    """The model was stopped while the request was under way."""

    status = 503
    code = "model_stopped"


class UnavailableError(JanflaskError):
    """Something the server needs is not there right now; the same request may work later."""

    status = 503
    code = "unavailable"


class TimeoutExceededError(UnavailableError):
    code = "timeout"


class UpstreamUnavailableError(UnavailableError):
    """The server elsewhere that runs a model cannot be reached, broke off, or says that it cannot answer now."""

    code = "upstream_unavailable"


class UpstreamTimeoutError(TimeoutExceededError):
    """The server elsewhere that runs a model said nothing for too long."""

    status = 504
    code = "upstream_timeout"


class UpstreamBusyError(QueueFullError):
    """The server elsewhere that runs a model takes no more requests now."""

    code = "upstream_busy"


class UpstreamError(JanflaskError):
    """The server elsewhere that runs a model failed at a request, or answered what cannot be understood."""

    status = 502
    code = "upstream_error"


class UpstreamSetupError(UpstreamError):
    """What ``model.json`` says of the server elsewhere does not fit it: its address, its model's name, the key."""

    code = "upstream_misconfigured"


class SourceUnavailableError(UnavailableError):
    """A model's source could not be reached or kept failing; the same download may work later, and goes on then."""

    code = "download_interrupted"


class StoreBusyError(UnavailableError):
    """Another process or thread keeps what is to be changed locked; nothing was changed."""

    code = "store_busy"


class StorageFullError(JanflaskError):
    """The disk or a quota is full, or a file may grow no further; nothing was changed."""

    status = 507
    code = "insufficient_storage"


class StoreDamagedError(JanflaskError):
    """A file of the store cannot be understood; what could be read is not touched."""

    code = "store_damaged"


class KeysUnreadableError(JanflaskError):
    """The file with the server's keys is damaged, or not its owner's alone; until it is right nobody gets in."""

    code = "keys_unreadable"


class ProtocolError(JanflaskError):
    """A frame between our own processes is malformed: wrong magic, version, kind, length or fields."""

    code = "protocol_error"


def error_of_kind(
    kind: str | None,
    message: str,
    *,
    param: str | None,
    retry_after: int | None,
    status: int,
    type: str,
    code: str | None,
) -> JanflaskError:
    """The error that another process raised: of the class whose own code is ``kind``, or the base if none has it.

    Only the fields are set, whatever the class's own ``__init__`` asks for.
    """
    cls = _BY_CODE.get(kind or "", JanflaskError)
    error = cls.__new__(cls, message)
    JanflaskError.__init__(error, message, param=param, retry_after=retry_after, status=status, type=type, code=code)
    return error


def why_not_json(data: bytes, error: Exception) -> str:
    """What ``error``, raised when ``data`` was read as JSON, says of it; positions are those in ``data``."""
    if isinstance(error, UnicodeDecodeError):  # it counts from the beginning of the string that it is in
        try:
            data.decode()
        except UnicodeDecodeError as whole:
            return f"it is not UTF-8 ({whole.reason}, byte {whole.start})"
    return str(error)
