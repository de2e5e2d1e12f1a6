"""Which token ids a model has. The one place where ids that came from a client are held against it."""

from __future__ import annotations

from collections.abc import Iterable

from janflask.errors import InvalidRequestError


def check_tokens(tokens: Iterable[int], n_vocab: int, field: str, *, param: str | None = None) -> None:
    """Raises InvalidRequestError for an id that is no token.

    It names ``field``, in which ``{}`` is the id's number; ``param`` is the request's field, if that is another.
    """
    for number, token in enumerate(tokens):
        if not 0 <= token < n_vocab:
            name = field.format(number)
            raise InvalidRequestError(
                f"{name}: {token} is no token of this model, its ids go from 0 to {n_vocab - 1}", param=param or name
            )
