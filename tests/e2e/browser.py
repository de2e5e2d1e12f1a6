"""Headless Chromium, driven by its devtools protocol: pages, what they run, what they say, and pages of other sites."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.e2e.server import LIMIT, wait_for

PROGRAM = shutil.which("chromium")
# A sandbox of its own needs a user who is not root; the rest keeps it from calling anybody but us.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-port=0",
    # No name leaves this machine: all lead here, whoever listens at the port.
    "--host-resolver-rules=MAP * 127.0.0.1, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]


class PageError(Exception):
    """What a script in a page threw."""


class Page:
    """A tab. What it says in its console, and what the browser says of it there, is in ``said``."""

    def __init__(self, browser: Browser, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session
        self.said: list[str] = []
        self.documents: dict[str, tuple[str, dict[str, str]]] = {}  # pages of other sites, by their URLs

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        return self._browser.send(method, self._session, **params)

    def goto(self, url: str) -> None:
        """Opens a page, and waits until it has loaded. Raises PageError where the browser can show none."""
        self._browser.forget("Page.loadEventFired", self._session)
        answer = self.send("Page.navigate", url=url)
        if "errorText" in answer:
            raise PageError(answer["errorText"])
        self._browser.await_event("Page.loadEventFired", self._session)

    def goto_site(self, url: str, html: str = "<!DOCTYPE html><title>elsewhere</title>", **headers: str) -> None:
        """Opens ``html`` as the page at ``url``: another site, or one whose name led elsewhere when it was loaded."""
        self.documents[url] = (html, headers)
        self.send("Fetch.enable", patterns=[{"urlPattern": each} for each in self.documents])
        self.goto(url)

    def run(self, script: str, **values: Any) -> Any:
        """What an async function's body returns, with ``values`` as its constants. Raises PageError."""
        given = ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
        code = f"(async () => {{ {f'const {given};' if given else ''} {script} }})()"
        answer = self.send(
            "Runtime.evaluate",
            expression=code,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,  # as if somebody had clicked: windows may open
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {})
            raise PageError(thrown.get("description") or answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    def wait(self, script: str, **values: Any) -> None:
        """Until the expression is true."""
        wait_for(lambda: self.run(f"return !!({script});", **values), f"{script} in the page")

    def write(self, text: str) -> None:
        """Types into what has the focus."""
        self.send("Input.insertText", text=text)

    def permit(self, name: str, origin: str) -> None:
        """What the visitor allows pages of ``origin``."""
        self._browser.send(
            "Browser.setPermission",
            permission={"name": name},
            setting="granted",
            origin=origin,
            browserContextId=self._context,
        )

    def close(self) -> None:
        """The tab, with all that it opened and kept."""
        self._browser.send("Target.disposeBrowserContext", browserContextId=self._context)

    def take(self, method: str, params: Mapping[str, Any]) -> None:
        """An event of this tab."""
        if method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(each.get("value")) for each in params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif method == "Log.entryAdded":
            self.said.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Fetch.requestPaused":
            html, headers = self.documents[params["request"]["url"].partition("#")[0]]
            self._browser.post(
                "Fetch.fulfillRequest",
                self._session,
                requestId=params["requestId"],
                responseCode=200,
                responseHeaders=[
                    {"name": name, "value": value} for name, value in {"Content-Type": "text/html", **headers}.items()
                ],
                body=base64.b64encode(html.encode()).decode(),
            )


class Browser:
    """A process of Chromium with a profile of its own."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        self._pages: dict[str, Page] = {}
        self._events: list[tuple[str, str | None, dict[str, Any]]] = []

    def open(self) -> Page:
        """A tab with nothing in it, and nothing kept of the others: cookies, storage, caches."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, context, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        return page

    def post(self, method: str, session: str | None = None, **params: Any) -> int:
        """A command whose result nobody waits for; its number."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        self._connection.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        return self._count

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command's result. Raises PageError for one that the browser refuses."""
        number = self.post(method, session, **params)
        deadline = time.monotonic() + LIMIT
        while (message := self._next(deadline)).get("id") != number:
            pass
        if "error" in message:
            raise PageError(f"{method}: {message['error']['message']}")
        result: dict[str, Any] = message["result"]
        return result

    def forget(self, method: str, session: str | None = None) -> None:
        """Events of this kind that have come so far."""
        self._events = [each for each in self._events if each[:2] != (method, session)]

    def await_event(self, method: str, session: str | None = None) -> dict[str, Any]:
        """The first one of this kind that was not forgotten."""
        deadline = time.monotonic() + LIMIT
        while True:
            for kind, where, params in self._events:
                if (kind, where) == (method, session):
                    return params
            self._next(deadline)

    def _next(self, deadline: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=max(0.0, deadline - time.monotonic())))
        if "method" in message:
            method, session, params = message["method"], message.get("sessionId"), message["params"]
            if not method.startswith("Network."):
                self._events.append((method, session, params))
            if session in self._pages:
                self._pages[session].take(method, params)
        return message


@contextmanager
def browsing(profile: Path, *flags: str) -> Iterator[Browser]:
    """A browser, which is gone afterwards with all that it started."""
    if PROGRAM is None:
        raise FileNotFoundError("chromium is not installed")
    log = profile.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    told = profile / "DevToolsActivePort"

    def listens() -> bool:
        if process.poll() is not None:
            raise ChildProcessError(f"chromium ended with {process.returncode}: {log.read_text()[-2000:]}")
        return told.exists() and len(told.read_text().splitlines()) == 2

    try:
        wait_for(listens, "chromium")
        port, path = told.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as connection:
            yield Browser(connection)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
