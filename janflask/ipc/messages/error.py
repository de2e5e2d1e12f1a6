"""How an error goes to another process."""

from __future__ import annotations

from janflask.errors import JanflaskError, error_of_kind
from janflask.ipc.frames import Message


class ErrorReply(Message, frozen=True):
    """A ``JanflaskError`` on its way to another process.

    ``kind`` is the code of the error's class, by which it is found again; ``code`` may be this one error's own.
    """

    message: str
    status: int
    type: str
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    kind: str | None = None

    @classmethod
    def of(cls, error: JanflaskError) -> ErrorReply:
        kind = type(error).code
        return cls(error.message, error.status, error.type, error.code, error.param, error.retry_after, kind)

    def to_error(self) -> JanflaskError:
        return error_of_kind(
            self.kind,
            self.message,
            status=self.status,
            type=self.type,
            code=self.code,
            param=self.param,
            retry_after=self.retry_after,
        )
