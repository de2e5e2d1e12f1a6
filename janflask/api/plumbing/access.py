"""Who may use a route: the key that a request brings, and the scopes that the operation asks for.

Every operation has a rule: the scopes that its caller needs, all of them, or that it is open to everybody. A route
that nobody made a rule for is the administrator's.
"""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, Request, current_app, g, request

from janflask.access.caller import ANYBODY, STRANGER, Caller, asking, working_for
from janflask.access.key_file import KeyFile
from janflask.access.keys import Keyring
from janflask.access.scopes import Scope, Scopes, in_words
from janflask.api.plumbing.context import client_socket, services
from janflask.api.plumbing.limits import Admission, KeyLimits, hold, tell
from janflask.api.plumbing.proxies import client_address
from janflask.errors import KeysUnreadableError, MissingScopeError, UnauthorizedError
from janflask.settings import Settings
from janflask.settings.hosts import address_of

OPEN: Scopes | None = None  # the rule of what everybody may use
ANY_KEY: Scopes = frozenset()  # ... of what any key is good for
_RULE = "needed_scopes"  # of a view
_PAGES = frozenset({"api-docs.openapi_json", "api-docs.openapi_swagger_ui"})  # flask-smorest's own, which are open

log = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., Any])


def needs(*scopes: Scope) -> Callable[[View], View]:
    """Makes the rule of a view."""
    return functools.partial(_with_rule, frozenset(scopes))


def is_open(view: View) -> View:
    """Makes a view everybody's."""
    return _with_rule(OPEN, view)


def has_rule(view: Callable[..., Any]) -> bool:
    """Whether somebody made a rule for the view."""
    return hasattr(view, _RULE)


def rule_of(view: Callable[..., Any]) -> Scopes | None:
    """The scopes that a view needs; None for an open one."""
    rule: Scopes | None = getattr(view, _RULE, frozenset({Scope.ADMIN}))
    return rule


def _with_rule(rule: Scopes | None, view: View) -> View:
    setattr(view, _RULE, rule)
    return view


def register(app: Flask, settings: Settings) -> None:
    """Puts the check in front of every route, those that do not exist among them."""
    gate, limits = Gate(settings), KeyLimits(settings)

    def admit() -> None:
        asking.set(STRANGER)  # not the one of the thread's last request
        given = request._get_current_object()  # type: ignore[attr-defined]  # each look through the proxy costs
        needed = _needed(given)
        found = gate.caller(given, needed)
        admission = g.admission = Admission(found)
        asking.set(found)
        working_for.set(found.key_id)
        if found.key is not None and needed is not None:
            limits.count(admission, found.key, generates=given.method == "POST" and Scope.INFERENCE in needed)

    app.before_request(admit)
    app.after_request(tell)


def caller() -> Caller:
    """Who sent the current request, which was let in."""
    found: Admission = g.admission
    return found.caller


def hold_stream() -> None:
    """The current request is answered by a stream. Raises RateLimitedError if its key has as many as it may."""
    found: Admission | None = g.get("admission")  # none where no request was let in: an application without this check
    if found is not None and found.caller.key is not None:
        hold(found, services().settings.usage_dir)


def require(*scopes: Scope) -> None:
    """Of a caller whose request asks for more than its route does. Raises MissingScopeError."""
    _check(caller(), frozenset(scopes))


class Gate:
    """Lets callers in. ``settings`` tell where the keys are, and whether everybody gets in where there are none."""

    def __init__(self, settings: Settings) -> None:
        self._keys = KeyFile(settings.secrets_dir)
        self._allows_keyless = settings.allow_keyless

    def caller(self, given: Request, needed: Scopes | None) -> Caller:
        """Who asks for something that needs these scopes.

        Raises UnauthorizedError, MissingScopeError, and KeysUnreadableError while the keys cannot be read; not for what
        is open, where it is a stranger then.
        """
        try:
            found = self._known(given)
        except (UnauthorizedError, KeysUnreadableError):
            if needed is not None:
                raise
            return STRANGER
        if needed:
            _check(found, needed)
        return found

    def _known(self, given: Request) -> Caller:
        keyring = self._keyring()
        if not keyring.required:
            if self._allows_keyless or _is_from_here():
                return ANYBODY
            raise UnauthorizedError(
                "this server has no keys yet, and takes requests of its own machine only: its owner can make a key "
                "with `janflask keys add NAME`"
            )
        text = sent_key(given)
        if text is None:
            raise UnauthorizedError("this server asks for an API key: send it as `Authorization: Bearer KEY`")
        key = keyring.holder(text)
        if key is None:
            log.info("request %s: a wrong key from %s", g.get("request_id"), client_address(given))
            raise UnauthorizedError("this API key is none of the server's, or it was revoked")
        return Caller(key, key.scopes)

    def _keyring(self) -> Keyring:
        try:
            return self._keys.current()
        except KeysUnreadableError as error:
            log.warning("request %s: %s", g.get("request_id"), error.message)  # a stranger is not told so much
            raise KeysUnreadableError("the server's keys cannot be read; its log says why") from None


def sent_key(given: Request) -> str | None:
    """The key that a request brings: as a bearer's token, or in ``x-api-key``, as Anthropic's clients send it."""
    scheme, _, text = given.environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return str(text.strip())
    return given.environ.get("HTTP_X_API_KEY", "").strip() or None


def _needed(given: Request) -> Scopes | None:
    """What is not there, and what is not done here, tells nothing to strangers either."""
    rule = given.url_rule
    if rule is None or given.method == "OPTIONS":
        return ANY_KEY
    return OPEN if rule.endpoint in _PAGES else rule_of(current_app.view_functions[rule.endpoint])


def _check(found: Caller, needed: Scopes) -> None:
    lacking = found.lacks(needed)
    if lacking:
        raise MissingScopeError(
            f"this API key has no scope for that: it lacks {in_words(lacking)} and has {in_words(found.scopes)}"
        )


def _is_from_here() -> bool:
    """Whether the request came over loopback or a Unix socket, as far as the server tells what it came over."""
    client = client_socket()
    if client is None or client.family == socket.AF_UNIX:
        return True
    return _is_loopback(client.getsockname()[0])


@functools.lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    address = address_of(host)
    return address is not None and address.is_loopback
