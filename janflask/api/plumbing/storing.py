"""Whether a request is to store something."""

from __future__ import annotations

import msgspec
from flask import current_app, request

from janflask.access.scopes import Scope
from janflask.api.plumbing import access
from janflask.api.plumbing.blueprint import whole_body
from janflask.decoding import json_decoder

_SAY_SO = {"/v1/responses": True, "/v1/chat/completions": False}  # routes; whether they store if a body does not say
_NULL = b"null"


def stores(*scopes: Scope) -> bool:
    """Whether the current request, of a method that may, is to a route which needs one of these scopes, or says so."""
    rule = request.url_rule
    needed = None if rule is None else access.rule_of(current_app.view_functions[rule.endpoint])
    if rule is None or needed is None:
        return False
    if needed & {*scopes}:
        return True
    if rule.rule not in _SAY_SO:
        return False
    try:
        told = bytes(json_decoder(_Body).decode(whole_body(request)).store)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # it is refused
    return _SAY_SO[rule.rule] if told == _NULL else told == b"true"


class _Body(msgspec.Struct):
    store: msgspec.Raw = msgspec.Raw(_NULL)  # as it stands there: nothing is made of values that nobody has counted
