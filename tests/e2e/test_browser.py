"""Pages in a real browser: one of a foreign site reads and changes nothing, a listed one works, and so does our own.

The browser's own checks of what may reach into this machine are off, but for the test of them: the server has to
defend itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import PROGRAM, Browser, Page, PageError, browsing
from tests.e2e.server import JANFLASK, MODEL, Server, environment, run, serving, wait_for

pytestmark = pytest.mark.skipif(PROGRAM is None and "CI" not in os.environ, reason="needs a browser (Debian: chromium)")

APP = "https://app.example"
FOREIGN = [
    "https://evil.example/",
    "http://evil.example/",
    "http://localhost:1/",  # this machine, which makes it the same site, and another port
    "http://127.0.0.1:1/",
    "https://app.example.evil.example/",
    "http://app.example/",  # the listed name without TLS
]
SANDBOXED = "https://evil.example/sandboxed"  # its origin is `null`
SECRET = "a title that nobody else may read"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    with browsing(folder / "profile", "--disable-features=LocalNetworkAccessChecks") as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without a key, so that nothing else stands between it and a page; it lists one origin."""
    with serving(tmp_path_factory.mktemp("open") / "data", JANFLASK_CORS_ORIGINS=APP) as started:
        started.post("/v1/threads", json={"title": SECRET}).raise_for_status()
        form = {"file": ("page.html", b"<script>document.title = 'run'</script>")}
        started.post("/v1/files", files=form, data={"purpose": "assistants"}).raise_for_status()
        yield started


@pytest.fixture(scope="module")
def locked(session_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with a model and a key, and the key."""
    data = tmp_path_factory.mktemp("locked") / "data"
    data.mkdir()
    (data / "models").symlink_to(session_data_dir / "models")
    scopes = ["--scope", "inference", "--scope", "conversations"]
    done = run([*JANFLASK, "keys", "add", "page", *scopes], environment(data, 1))
    assert done.returncode == 0, done.stderr
    with serving(data, JANFLASK_CORS_ORIGINS=APP) as started:
        yield started, done.stdout.strip()


def tree(folder: Path) -> dict[str, bytes]:
    """All that a server keeps."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def thread_of(server: Server) -> str:
    found: str = server.found("/v1/threads")[0]["id"]
    return found


def file_of(server: Server) -> str:
    found: str = server.found("/v1/files")["data"][0]["id"]
    return found


def filled(server: Server) -> list[tuple[str, str]]:
    """(method, path) of every operation, about what is there."""
    known = {"thread_id": thread_of(server), "file_id": file_of(server)}
    paths = server.found("/openapi.json")["paths"]
    return [
        (method.upper(), re.sub(r"{([^}]*)}", lambda match: known.get(match[1], "x"), path))
        for path, item in paths.items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    ]


def visit(page: Page, site: str) -> None:
    """Opens a page of ``site``, whose scripts may do what they like."""
    if site == SANDBOXED:
        page.goto_site(site, **{"Content-Security-Policy": "sandbox allow-scripts allow-forms allow-popups"})
        assert page.run("return origin") == "null"
    else:
        page.goto_site(site)
        assert page.run("return origin") == site.rstrip("/")


# --- a page of a foreign site -----------------------------------------------------------------------------------------


READ = """
const got = [];
const note = (how, path, what) => got.push(`${how} ${path}: ${what}`);
for (const path of paths) {
  for (const mode of ['cors', 'no-cors']) {
    for (const method of ['GET', 'HEAD']) {
      try {
        const answer = await fetch(url + path, {mode, method});
        note(`fetch ${mode} ${method}`, path, `${answer.type} ${answer.status} ${await answer.text()}`);
      } catch { continue }
    }
  }
}
return got;
"""


@pytest.mark.parametrize("site", [*FOREIGN, SANDBOXED])
def test_a_foreign_page_reads_nothing(server: Server, page: Page, site: str) -> None:
    paths = [path for method, path in filled(server) if method == "GET"] + ["/", "/docs", "/openapi.json", "/nowhere"]
    paths += ["/docs/assets/docs.js"]
    assert len(paths) > 40
    visit(page, site)
    assert page.run(READ, url=server.url, paths=paths) == []


WRITE = """
const got = [];
for (const [method, path] of operations) {
  const tries = [{method, headers: {'Content-Type': 'application/json'}, body}];
  if (method === 'POST') {
    const form = new FormData();
    form.append('purpose', 'assistants');
    form.append('file', new Blob(['x']), 'a.txt');
    tries.push({method, body, mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, keepalive: true});
    tries.push({method, body: form, mode: 'no-cors'}, {method, mode: 'no-cors'}, {method, body: form});
    navigator.sendBeacon(url + path, body);
  }
  for (const each of tries) {
    try {
      const answer = await fetch(url + path, each);
      if (each.mode !== 'no-cors') got.push(`${method} ${path}: ${answer.status}`);
    } catch { continue }
  }
}
return got;
"""
BODY = json.dumps({"title": "changed", "model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})


@pytest.mark.parametrize("site", [*FOREIGN, SANDBOXED])
def test_a_foreign_page_changes_nothing(server: Server, page: Page, site: str) -> None:
    operations = [each for each in filled(server) if each[0] != "GET"]
    assert len(operations) > 40
    before = tree(server.data_dir)
    assert any(SECRET.encode() in content for content in before.values())
    visit(page, site)
    assert page.run(WRITE, url=server.url, operations=operations, body=BODY) == []
    assert tree(server.data_dir) == before


FORM = """
const form = Object.assign(document.createElement('form'), {method: 'POST', action: url + path, enctype, target});
const field = Object.assign(document.createElement('input'), {name: '{"title": "changed", "x": "', value: '"}'});
form.append(field);
document.body.append(form);
if (target) {
  const frame = Object.assign(document.createElement('iframe'), {name: target});
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; form.submit(); setTimeout(done, 5000) });
} else {
  form.submit();
}
"""


@pytest.mark.parametrize("target", ["", "frame"])
@pytest.mark.parametrize("enctype", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
def test_a_foreign_form_changes_nothing(server: Server, page: Page, enctype: str, target: str) -> None:
    thread = thread_of(server)
    before = tree(server.data_dir)
    for path in ("/v1/threads", f"/v1/threads/{thread}", f"/v1/threads/{thread}/messages", "/v1/files"):
        visit(page, FOREIGN[0])
        page.run(FORM, url=server.url, path=path, enctype=enctype, target=target)
        if not target:
            page.wait("location.href.startsWith(url) && document.body", url=server.url)
            assert "foreign_origin" in page.run("return document.body.innerText")
    assert tree(server.data_dir) == before


EMBED = """
const got = [];
const make = (kind, given) => Object.assign(document.createElement(kind), given);
const tries = [];
for (const path of paths) {
  const src = url + path;
  tries.push(
    make('img', {src}), make('script', {src}), make('script', {src, type: 'module'}), make('video', {src}),
    make('audio', {src}), make('link', {rel: 'stylesheet', href: src}), make('img', {src, crossOrigin: 'anonymous'}),
    make('link', {rel: 'preload', as: 'fetch', href: src}),
  );
}
await Promise.all(tries.map(each => new Promise(done => {
  each.onload = each.onloadeddata = () => { got.push(each.outerHTML); done() };
  each.onerror = done;
  setTimeout(done, 4000);
  document.body.append(each);
})));
for (const path of paths) {
  try { await import(url + path); got.push(`import ${path}`) } catch {}
  try { new Worker(url + path); got.push(`worker ${path}`) } catch {}
}
const opened = source => new Promise(done => {
  source.onopen = source.onmessage = () => done(true);
  source.onerror = () => done(false);
  setTimeout(() => done('nothing'), 5000);
});
for (const path of paths) {
  if (await opened(new EventSource(url + path))) got.push(`events ${path}`);
  if (await opened(new WebSocket(url.replace('http', 'ws') + path))) got.push(`socket ${path}`);
}
return got;
"""
EMBEDDED = ["/docs", "/docs/assets/docs.js", "/docs/assets/swagger-ui.css", "/v1/threads", "/openapi.json"]


@pytest.mark.parametrize("site", [FOREIGN[0], FOREIGN[2], SANDBOXED])
def test_a_foreign_page_embeds_and_opens_nothing(server: Server, page: Page, site: str) -> None:
    visit(page, site)
    assert page.run(EMBED, url=server.url, paths=[*EMBEDDED, f"/v1/files/{file_of(server)}/content"]) == []


FRAME = """
const frame = document.createElement(kind);
frame[kind === 'object' ? 'data' : 'src'] = url + path;
document.body.append(frame);
await new Promise(done => { frame.onload = frame.onerror = done; setTimeout(done, 2000) });
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/docs", "iframe"), ("/docs", "object"), ("/docs", "embed"), ("/v1/threads", "iframe")]
)
def test_no_page_shows_ours_in_a_frame(server: Server, page: Page, path: str, kind: str) -> None:
    """A foreign one, and one of our own, where someone may have found a way to put one in."""
    visit(page, FOREIGN[3])  # the same host: a frame of another one is in a process of its own, and not seen here
    page.run(FRAME, url=server.url, path=path, kind=kind)
    assert framed(page) == []
    page.goto(f"{server.url}/docs")
    page.run(FRAME, url="", path=path, kind=kind)
    assert framed(page) == []


def framed(page: Page) -> list[str]:
    """The URLs of the page's frames that show more than the browser's own error."""
    found = page.send("Page.getFrameTree")["frameTree"].get("childFrames", [])
    urls: list[str] = [each["frame"]["url"] for each in found]
    return [url for url in urls if not url.startswith(("chrome-error:", "about:blank"))]


def test_a_page_that_opens_a_window_of_ours_cannot_reach_it(server: Server, page: Page) -> None:
    visit(page, FOREIGN[0])
    opened = page.run(
        """
        const other = open(url + '/docs');
        for (let i = 0; i < 100 && !other.closed; i++) await new Promise(done => setTimeout(done, 50));
        return other.closed;
        """,
        url=server.url,
    )
    assert opened, "the window has left, as far as the page can tell"


# --- a page whose name leads here -------------------------------------------------------------------------------------


REBOUND = """
const got = [];
for (const [method, path] of operations) {
  const body = ['GET', 'HEAD'].includes(method) ? undefined : '{"title": "changed"}';
  const answer = await fetch(path, {method, body, headers: {'Content-Type': 'application/json'}});
  const text = await answer.text();
  if (answer.status !== 403 || !text.includes('unknown_host')) got.push(`${method} ${path}: ${answer.status} ${text}`);
}
return got;
"""


@pytest.mark.parametrize("name", ["rebound.example", "localhost.rebound.example", "127.0.0.1.rebound.example"])
def test_a_page_whose_name_was_made_to_lead_here(server: Server, page: Page, name: str) -> None:
    """Its site's server sent the page; from then on the name is ours, and the browser thinks that both are one."""
    before = tree(server.data_dir)
    page.goto_site(f"http://{name}:{server.port}/attack")
    assert page.run("return origin") == f"http://{name}:{server.port}"
    operations = [*filled(server), ("GET", "/docs"), ("GET", "/"), ("GET", "/docs/assets/docs.js")]
    assert page.run(REBOUND, operations=operations) == []
    assert tree(server.data_dir) == before


# --- a listed page ----------------------------------------------------------------------------------------------------


CHAT = """
const answer = await fetch(url + '/v1/chat/completions', {
  method: 'POST',
  headers: {'Content-Type': 'application/json', Authorization: `Bearer ${key}`, 'X-Stainless-Lang': 'js'},
  body: JSON.stringify({model, stream: true, max_tokens: 16, messages: [{role: 'user', content: 'Count to ten.'}]}),
});
const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
let text = '', pieces = 0;
for (;;) {
  const {done, value} = await reader.read();
  if (done) break;
  text += value;
  pieces += 1;
}
return {status: answer.status, id: answer.headers.get('x-request-id'), text, pieces, type: answer.type};
"""


def test_a_listed_page_chats_and_streams(locked: tuple[Server, str], page: Page) -> None:
    server, key = locked
    visit(page, f"{APP}/")
    found = page.run(CHAT, url=server.url, key=key, model=MODEL)
    assert (found["status"], found["type"]) == (200, "cors")
    assert found["id"]
    assert found["pieces"] > 1, "it comes as it is made"
    events = [line.removeprefix("data: ") for line in found["text"].splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    words = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "".join(words).strip()


KEYS = """
const tell = async (path, given) => {
  const answer = await fetch(url + path, given);
  const body = await answer.json();
  return [answer.status, body.error?.code ?? 'ok'];
};
const bearer = {Authorization: `Bearer ${key}`};
return [
  await tell('/v1/models'),
  await tell('/v1/models', {headers: {Authorization: 'Bearer jf_none'}}),
  await tell('/v1/models', {headers: bearer}),
  await tell('/v1/models', {headers: {'x-api-key': key}}),
  await tell('/v1/models', {credentials: 'same-origin'}),
  await tell(`/v1/models/${model}`, {method: 'DELETE', headers: bearer}),
  await tell('/v1/nowhere', {headers: bearer}),
];
"""


def test_a_listed_page_needs_a_key_like_anybody(locked: tuple[Server, str], page: Page) -> None:
    server, key = locked
    visit(page, f"{APP}/")
    assert page.run(KEYS, url=server.url, key=key, model=MODEL) == [
        [401, "invalid_api_key"],
        [401, "invalid_api_key"],
        [200, "ok"],
        [200, "ok"],
        [401, "invalid_api_key"],
        [403, "missing_scope"],
        [404, "not_found"],
    ]
    visit(page, FOREIGN[0])
    for how in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
        with pytest.raises(PageError, match="Failed to fetch"):
            page.run("return (await fetch(url, {headers})).status", url=f"{server.url}/v1/models", headers=how)


STORE = """
const form = new FormData();
form.append('purpose', 'assistants');
form.append('file', new Blob(['some words']), 'words.txt');
const headers = {Authorization: `Bearer ${key}`};
const file = await (await fetch(url + '/v1/files', {method: 'POST', headers, body: form})).json();
const part = await fetch(`${url}/v1/files/${file.id}/content`, {headers: {...headers, Range: 'bytes=5-9'}});
const json = {...headers, 'Content-Type': 'application/json'};
const thread = await (await fetch(url + '/v1/threads', {method: 'POST', headers: json, body: '{}'})).json();
const changed = {method: 'PATCH', headers: json, body: '{"title": "New"}'};
const patched = await fetch(`${url}/v1/threads/${thread.id}`, changed);
const gone = await fetch(`${url}/v1/files/${file.id}`, {method: 'DELETE', headers});
const missing = await fetch(`${url}/v1/files/${file.id}`, {headers});
return [
  part.status, await part.text(), part.headers.get('content-range'), part.headers.get('content-disposition'),
  (await patched.json()).title, (await gone.json()).deleted, missing.status,
];
"""


def test_a_listed_page_stores_and_deletes(locked: tuple[Server, str], page: Page) -> None:
    server, key = locked
    visit(page, f"{APP}/")
    assert page.run(STORE, url=server.url, key=key) == [
        206,
        "words",
        "bytes 5-9/10",
        "attachment; filename=words.txt",
        "New",
        True,
        404,
    ]


def test_a_listed_page_that_leaves_ends_its_answer(locked: tuple[Server, str], page: Page) -> None:
    server, key = locked
    visit(page, f"{APP}/")
    page.run(
        """
        const leaving = new AbortController();
        const answer = await fetch(url + '/v1/completions', {
          method: 'POST',
          signal: leaving.signal,
          headers: {'Content-Type': 'application/json', Authorization: `Bearer ${key}`},
          body: JSON.stringify({model, stream: true, max_tokens: 1500, ignore_eos: true, prompt: 'Once upon a time'}),
        });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        while (!(await reader.read()).value.includes('data: ')) continue;
        leaving.abort();
        """,
        url=server.url,
        key=key,
        model=MODEL,
    )
    tell = "return (await (await fetch(url, {headers})).json()).stats.cancelled"
    about = {"url": f"{server.url}/v1/models/{MODEL}", "headers": {"Authorization": f"Bearer {key}"}}
    wait_for(lambda: page.run(tell, **about) == 1, "the answer to be given up")


def test_a_page_of_the_internet_needs_the_visitors_leave(server: Server, tmp_path: Path) -> None:
    """What docs/serving.md says of Local Network Access: a page with TLS may ask for it, one without never."""
    ask = "try { return (await fetch(url)).status } catch (error) { return String(error) }"
    url = f"{server.url}/v1/threads"
    with browsing(tmp_path / "profile") as browser:
        page = browser.open()
        page.goto_site(f"{APP}/")
        assert page.run(ask, url=url) == "TypeError: Failed to fetch"
        assert any("loopback" in line for line in page.said)
        page.permit("loopback-network", APP)
        assert page.run(ask, url=url) == 200
        page.goto_site("http://app.example/")
        assert page.run(ask, url=url) == "TypeError: Failed to fetch"


# --- our own page -----------------------------------------------------------------------------------------------------


def test_the_documentation_works_under_its_policy(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/docs")
    page.wait("document.querySelectorAll('.opblock').length > 80")
    assert page.said == []
    # Nothing runs that stands in the page, is made of a text, or comes from elsewhere.
    refused = page.run(
        """
        const refused = [];
        document.addEventListener('securitypolicyviolation', event => refused.push(event.effectiveDirective));
        const add = (kind, given) => document.body.append(Object.assign(document.createElement(kind), given));
        add('script', {textContent: 'window.done = 1'});
        add('script', {src: 'https://evil.example/x.js'});
        add('img', {src: 'https://evil.example/x.png'});
        add('link', {rel: 'stylesheet', href: 'https://evil.example/x.css'});
        add('style', {textContent: 'body { display: none }'});
        add('div', {innerHTML: '<img src="data:," onerror="window.done = 1">'});
        try { await fetch('https://evil.example/') } catch {}
        const form = document.createElement('form');
        form.action = 'https://evil.example/';
        document.body.append(form);
        form.submit();
        try { eval('window.done = 1') } catch {}
        await new Promise(done => setTimeout(done, 500));
        return [window.done ?? null, [...new Set(refused)].sort()];
        """
    )
    assert refused[0] is None
    assert set(refused[1]) >= {
        "connect-src",
        "form-action",
        "img-src",
        "script-src",
        "script-src-attr",
        "script-src-elem",
        "style-src-elem",
    }


def click(page: Page, selector: str, text: str = "") -> None:
    """The first element that ``selector`` names and that says ``text``."""
    find = "[...document.querySelectorAll(selector)].find(each => each.textContent.includes(text))"
    page.wait(find, selector=selector, text=text)
    page.run(f"{find}.click()", selector=selector, text=text)


def execute(page: Page, operation: str) -> tuple[int, str]:
    """Tries the operation out: status and body of the answer."""
    block = f"#operations-{operation}"
    if not page.run("return !!document.querySelector(block + ' .execute')", block=block):
        click(page, f"{block} .opblock-summary-control")
    click(page, f"{block} .execute")
    shown = f"{block} .live-responses-table .response"
    page.wait("!document.querySelector(block + ' .loading-container')", block=block)
    page.wait("document.querySelector(shown + ' .response-col_status')", shown=shown)
    status = page.run("return document.querySelector(shown + ' .response-col_status').textContent", shown=shown)
    body = page.run("return document.querySelector(shown + ' .highlight-code')?.textContent ?? ''", shown=shown)
    return int(re.findall(r"\d+", status)[0]), body


def authorize(page: Page, key: str) -> None:
    click(page, ".auth-wrapper > .authorize")
    page.wait("document.querySelector('.modal-ux input')")
    page.run("document.querySelector('.modal-ux input').focus()")
    page.write(key)
    click(page, ".modal-ux .auth-btn-wrapper .authorize", "Authorize")
    page.wait("document.querySelector('.modal-ux .auth-btn-wrapper').textContent.includes('Logout')")
    click(page, ".modal-ux .btn-done")


def test_the_documentation_sends_the_key_that_it_is_given(locked: tuple[Server, str], page: Page) -> None:
    server, key = locked
    page.goto(f"{server.url}/docs")
    page.wait("document.querySelectorAll('.opblock').length > 80")
    status, body = execute(page, "Models-listModels")
    assert (status, "invalid_api_key" in body) == (401, True)
    authorize(page, key)
    status, body = execute(page, "Models-listModels")
    assert (status, MODEL in body) == (200, True)
    assert page.run("return [Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]") == [[], [], ""]
    page.goto(f"{server.url}/docs")
    page.wait("document.querySelectorAll('.opblock').length > 80")
    assert execute(page, "Models-listModels")[0] == 401, "the key is forgotten with the page"


def test_what_was_uploaded_is_never_run(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/docs")
    with pytest.raises(PageError, match="ERR_ABORTED"):  # it is a download
        page.goto(f"{server.url}/v1/files/{file_of(server)}/content")
    assert page.run("return document.title") != "run"
    page.goto(f"{server.url}/v1/threads")
    assert SECRET in page.run("return document.body.innerText")
    assert page.run("return origin") == "null", "an answer that is looked at is nobody's page"
