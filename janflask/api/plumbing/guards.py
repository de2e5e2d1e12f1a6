"""What a browser is told of every answer: not to run it, frame it, embed it, keep it, or guess what it is."""

from __future__ import annotations

from flask import Response

# No answer is a page, but for two: whatever a browser takes it for, it loads, sends and runs nothing.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
# The documentation: our own script and style sheet, requests to this server, and the pictures in the style sheet.
DOCUMENTATION = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The page: the same, its own icon, and no text that becomes HTML but the constant templates of its framework.
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types svelte-trusted-html"
)
POLICY = "Content-Security-Policy"
KEEPING = "Cache-Control"

_EMBEDDING = "Cross-Origin-Resource-Policy"  # pictures, scripts and the like, of which no page asks whether it may
_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),  # of the policy, for browsers that don't know that part of it
    ("Referrer-Policy", "no-referrer"),  # ids stand in paths
    ("Cross-Origin-Opener-Policy", "same-origin"),  # a page that opens a window of ours holds no handle of it
)
_OWN = (*_ALWAYS, (_EMBEDDING, "same-origin"))
_ANYBODYS = (*_ALWAYS, (_EMBEDDING, "cross-origin"))


def put_on(response: Response, *, embeds: bool) -> None:
    """Puts the headers on an answer, which may have a policy and a life of its own. ``embeds``: every page may."""
    headers = response.headers
    headers.extend(_ANYBODYS if embeds else _OWN)
    headers.setdefault(POLICY, NOTHING)
    headers.setdefault(KEEPING, "no-store")  # conversations are not for a disk of the browser's, or of a proxy's
