"""``janflask models add-upstream`` against real servers, and what the other commands say of the entry."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from janflask.cli.banner import welcome
from janflask.cli.doctor import doctor
from janflask.cli.models import models
from janflask.models.catalog import ModelCatalog
from janflask.models.upstream import ServerKind
from janflask.settings import Settings
from tests.fakes import listing_server as fake
from tests.fakes.file_server import CERTIFICATE
from tests.fakes.listing_server import FakeOpenAI, listing_server, speaking

KEY = "sk-very-secret"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The models' folder of this shell's settings, where no server listens. Nothing half-made may be left in it."""
    monkeypatch.setenv("JANFLASK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JANFLASK_PORT", "1")
    root = tmp_path / "data" / "models"
    yield root
    staging = root / ".janflask"
    assert not staging.exists() or list(staging.iterdir()) == []


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "big.key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with listing_server(fake.VLLM) as running:
        yield running


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(models, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert KEY not in result.output
    return result


def add(*args: str | Path) -> Result:
    return run("add-upstream", *args)


def refused(*args: str | Path) -> str:
    """The error of a command that must fail."""
    result = add(*args)
    assert result.exit_code != 0
    return result.stderr.partition("Error: ")[2].strip()


def entry(root: Path, model_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / model_id / "model.json").read_text())
    return content


# --- an entry -----------------------------------------------------------------------------------------------------


def test_the_only_model_gets_an_entry(root: Path, server: FakeOpenAI) -> None:
    result = add(server.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"Big (32768 tokens of context, at {server.url}), run by vllm, named org/Big there\n"
        "Chat     janflask chat Big\nWatch    janflask models ps\n"
    )
    content = entry(root, "Big")
    assert content["upstream"] == {"kind": "vllm", "base_urls": [server.url], "model": "org/Big"}
    assert (content["metadata"], content["format"]) == ({"context_length": 32768}, "api")
    card = ModelCatalog(root).get("Big")
    assert card.upstream is not None
    assert (card.problem, card.upstream.kind, card.upstream.ctx_len) == (None, ServerKind.VLLM, None)
    assert [path.name for path in (root / "Big").iterdir()] == ["model.json"]
    assert server.asked == [("/v1/models", None)]


def test_all_that_can_be_said(root: Path, key_file: Path) -> None:
    with listing_server(fake.VLLM, fake.OPENAI, key=KEY) as one, listing_server(fake.VLLM, key=KEY) as two:
        options = ["--id", "big", "--model", "org/Big", "--kind", "openai", "--api-key-file", key_file]
        options += ["--ctx-len", "4096", "--max-concurrent", "8", "--timeout", "30"]
        result = add(one.url, two.url + "/", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        assert [one.asked, two.asked] == [[("/v1/models", f"Bearer {KEY}")]] * 2
        assert entry(root, "big")["upstream"] == {
            "kind": "openai",
            "base_urls": [one.url, two.url],
            "model": "org/Big",
            "api_key_file": str(key_file),
            "ctx_len": 4096,
            "max_concurrent": 8,
            "timeout": 30.0,
        }
    assert KEY not in (root / "big" / "model.json").read_text()
    assert entry(root, "big")["metadata"] == {}
    assert "4096 tokens of context" in result.stdout


def test_a_key_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listing_server(fake.VLLM, key=KEY) as server:
        assert "JANFLASK_UPSTREAM_BIG" in refused(server.url, "--api-key-env", "JANFLASK_UPSTREAM_BIG")
        monkeypatch.setenv("JANFLASK_UPSTREAM_BIG", KEY)
        assert add(server.url, "--api-key-env", "JANFLASK_UPSTREAM_BIG").exit_code == 0
    assert entry(root, "Big")["upstream"]["api_key_env"] == "JANFLASK_UPSTREAM_BIG"


@pytest.mark.parametrize(
    ("listed", "model_id", "kind", "context"),
    [
        (fake.VLLM, "Big", "vllm", 32768),
        (fake.LLAMA_SERVER, "big", "llama-server", 4096),
        (fake.LLAMA_CPP_PYTHON, "smol", "llama-cpp-python", None),
        (fake.OPENAI, "gpt-x", "openai", None),
        ({"id": "/models/a b.gguf"}, "a-b", "openai", None),
        ({"id": "x", "owned_by": 7, "meta": None, "aliases": "y", "max_model_len": "no"}, "x", "openai", None),
    ],
)
def test_what_runs_there_is_told_by_its_list(
    root: Path, listed: dict[str, Any], model_id: str, kind: str, context: int | None
) -> None:
    with listing_server(listed) as server:
        assert add(server.url).exit_code == 0
    assert entry(root, model_id)["upstream"]["kind"] == kind
    assert entry(root, model_id)["metadata"].get("context_length") == context


@pytest.mark.parametrize(
    ("told", "context"),
    [
        ({"runtime": {"ctx_len": 2048}, "settings": {"ctx_len": 8192}}, 2048),
        ({"runtime": None, "settings": {"ctx_len": 8192}}, 8192),
        ({"runtime": None, "settings": {}, "upstream": {"ctx_len": 512}}, 512),
        ({"runtime": None, "settings": {}}, None),
    ],
)
def test_another_janflask_tells_more_of_one_model(root: Path, told: dict[str, Any], context: int | None) -> None:
    coming = {**fake.JANFLASK, "id": "coming", "status": "downloading"}
    with listing_server(coming, fake.JANFLASK) as server:
        server.answers["/v1/models/smol"] = (200, {}, json.dumps(told).encode())
        assert add(server.url).exit_code == 0
    assert entry(root, "smol")["upstream"]["kind"] == "janflask"
    assert entry(root, "smol")["metadata"].get("context_length") == context


def test_an_alias_is_a_name(root: Path) -> None:
    with listing_server(fake.LLAMA_SERVER, fake.OPENAI) as server:
        assert add(server.url, "--model", "big").exit_code == 0
    assert entry(root, "big")["upstream"]["model"] == "big"


def test_a_host_alone_gets_the_usual_path(root: Path, server: FakeOpenAI) -> None:
    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert add(host).exit_code == 0
    assert entry(root, "Big")["upstream"]["base_urls"] == [server.url]


def test_the_least_context_of_several_counts(root: Path, server: FakeOpenAI) -> None:
    with listing_server({**fake.VLLM, "max_model_len": 1024}) as other:
        assert add(server.url, other.url).exit_code == 0
    assert entry(root, "Big")["metadata"] == {"context_length": 1024}


def test_json(root: Path, server: FakeOpenAI) -> None:
    told = json.loads(add(server.url, "--json").stdout)
    assert (told["id"], told["upstream"]["kind"], told["upstream"]["servers"][0]["reachable"]) == ("Big", "vllm", None)


def test_without_asking(root: Path) -> None:
    assert "--no-check asks nobody" in refused("http://big.example", "--no-check")
    result = add("http://big.example", "--no-check", "--model", "org/Big", "--api-key-env", "JANFLASK_UPSTREAM_NONE")
    assert result.exit_code == 0
    assert "the key and all that is said goes over the network as plain text" in result.stderr
    assert entry(root, "Big")["upstream"] == {
        "base_urls": ["http://big.example/v1"],
        "model": "org/Big",
        "api_key_env": "JANFLASK_UPSTREAM_NONE",
    }


# --- what is there already ----------------------------------------------------------------------------------------


def test_an_entry_is_replaced_by_force_only_and_keeps_the_rest(root: Path, server: FakeOpenAI) -> None:
    assert add(server.url, "--ctx-len", "4096").exit_code == 0
    assert run("set", "Big", "name=My big one", "parameters.temperature=0.2").exit_code == 0
    before = (root / "Big" / "model.json").read_bytes()
    assert "replace it with --force" in refused(server.url)
    assert (root / "Big" / "model.json").read_bytes() == before
    with listing_server({**fake.OPENAI, "id": "Big"}) as other:
        assert add(other.url, "--force").exit_code == 0
        content = entry(root, "Big")
        assert content["upstream"] == {"kind": "openai", "base_urls": [other.url], "model": "Big"}
    assert (content["name"], content["parameters"], content["metadata"]) == ("My big one", {"temperature": 0.2}, {})


def test_one_that_is_wrong_can_be_replaced(root: Path, server: FakeOpenAI) -> None:
    (root / "Big").mkdir(parents=True)
    (root / "Big" / "model.json").write_text('{"upstream": {"model": 7}}')
    assert add(server.url, "--force").exit_code == 0
    assert ModelCatalog(root).get("Big").problem is None


@pytest.mark.parametrize("file", ["x.gguf", "model.json", "notes.txt"])
def test_no_other_model_is_touched(root: Path, server: FakeOpenAI, file: str) -> None:
    (root / "Big").mkdir(parents=True)
    (root / "Big" / file).write_bytes(b"{}")
    assert "choose another id" in refused(server.url, "--force")
    assert [(path.name, path.read_bytes()) for path in (root / "Big").iterdir()] == [(file, b"{}")]


def test_a_folder_of_models_does_not_become_one(root: Path, server: FakeOpenAI) -> None:
    (root / "Big" / "inner").mkdir(parents=True)
    (root / "Big" / "inner" / "x.gguf").write_bytes(b"GGUF")
    assert "the folder Big holds models" in refused(server.url)


@pytest.mark.parametrize("model_id", ["../x", ".x", "a/b", "", "x" * 129])
def test_an_id_is_never_a_path(root: Path, server: FakeOpenAI, model_id: str) -> None:
    if model_id:
        assert "cannot be a model's id" in refused(server.url, "--id", model_id)
        assert not root.exists()
    else:  # none is given: it is made from the name there
        assert add(server.url, "--id", model_id).exit_code == 0


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_several_models_are_listed(root: Path) -> None:
    with listing_server(fake.VLLM, fake.OPENAI) as server:
        assert refused(server.url) == f"{server.url} has several models: say which with --model: org/Big, gpt-x"
        assert refused(server.url, "--model", "x") == f"{server.url} has no model 'x'; it has: org/Big, gpt-x"
    with listing_server() as server:
        assert refused(server.url) == f"there is no model that can be asked ({server.url}: none)"
    assert not root.exists()


def test_the_servers_of_one_model_agree(root: Path, server: FakeOpenAI) -> None:
    with listing_server(fake.OPENAI) as other:
        assert "there is no model that all of them have" in refused(server.url, other.url)
        assert (
            refused(server.url, other.url, "--model", "org/Big") == f"{other.url} has no model 'org/Big'; it has: gpt-x"
        )
    with listing_server({**fake.OPENAI, "id": "org/Big"}) as other:
        assert "must be of one kind" in refused(server.url, other.url)
        assert add(server.url, other.url, "--kind", "openai").exit_code == 0


def test_a_key_that_is_missing_or_wrong(root: Path, key_file: Path) -> None:
    with listing_server(fake.VLLM, key="another") as server:
        assert refused(server.url) == (f"{server.url} wants a key (401): name it with --api-key-file or --api-key-env")
        assert refused(server.url, "--api-key-file", key_file) == f"{server.url} does not accept the key (401)"
        asked = len(server.asked)
        key_file.chmod(0o644)
        assert "chmod 600" in refused(server.url, "--api-key-file", key_file)
        assert "is not there" in refused(server.url, "--api-key-file", key_file.with_name("no.key"))
        assert "ends in .key" in refused(server.url, "--api-key-file", "/etc/passwd")
        assert "begins with JANFLASK_UPSTREAM_" in refused(server.url, "--api-key-env", "HF_TOKEN")
        assert len(server.asked) == asked
    assert not root.exists()


def test_a_key_that_the_server_repeats_is_not_shown(root: Path, key_file: Path) -> None:
    with listing_server(fake.VLLM) as server:
        server.answers["/v1/models"] = (500, {}, f"no such key: {KEY}".encode())
        assert refused(server.url, "--api-key-file", key_file) == f"{server.url} answers 500: no such key: ***"
        for blank in (*range(780, 804, 4), *range(1580, 1604, 4)):  # wherever it is cut, no part of the key remains
            server.answers["/v1/models"] = (500, {}, b" " * blank + f"x\x1b {KEY}".encode())
            assert KEY[:4] not in refused(server.url, "--api-key-file", key_file)
        server.answers["/v1/models"] = (302, {"Location": f"http://h.example/?k={KEY}"}, b"")
        assert "redirects to http://h.example/?k=***" in refused(server.url, "--api-key-file", key_file)


def test_a_redirect_is_not_followed(root: Path, server: FakeOpenAI, key_file: Path) -> None:
    with listing_server(fake.VLLM) as other:
        server.answers["/v1/models"] = (307, {"Location": f"{other.url}/models"}, b"")
        assert refused(server.url, "--api-key-file", key_file) == (
            f"{server.url} redirects to {other.url}/models: give the URL it leads to"
        )
        assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, b"{}"), "has no /models (404): a base URL ends in /v1 at most servers"),
        ((503, b"loading"), "answers 503: loading"),
        ((500, b""), "answers 500: without a reason"),
        ((200, b"<html>Welcome</html>"), "answers, but not like OpenAI's API: /models gives '<html>Welcome</html>'"),
        ((200, b"[]"), "answers, but not like OpenAI's API"),
        ((200, b'{"data": 7}'), "its /models holds no list"),
        ((200, b'{"data": [7, {"id": 7}, {}]}'), "there is no model that can be asked"),
        ((200, b" " * (5 << 20)), "bytes: no list of models"),
    ],
)
def test_an_answer_that_is_none(root: Path, server: FakeOpenAI, answer: tuple[int, bytes], says: str) -> None:
    status, body = answer
    server.answers["/v1/models"] = (status, {}, body)
    assert says in refused(server.url)
    assert not root.exists()


def test_a_server_that_cannot_be_reached(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    url = f"http://127.0.0.1:{free}/v1"
    assert refused(url) == f"{url} cannot be reached: Connection refused"
    assert "is not known here" in refused("http://nowhere.invalid/v1")
    with speaking(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        assert refused(url) == f"{url} does not answer in HTTP (BadStatusLine)"
    with speaking(b"") as url:
        assert "cannot be reached" in refused(url)


def test_a_server_that_is_silent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.cli.upstream_probe.SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it accepts, and says nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        assert refused(url) == f"{url} does not answer within 0.1 s"


def test_certificates_are_verified(root: Path, tmp_path: Path, server: FakeOpenAI) -> None:
    with listing_server(fake.VLLM, tls=True, host="127.0.0.2") as other:  # the certificate is for another host
        assert "is not trusted (IP address mismatch" in refused(other.url, "--ca-file", CERTIFICATE)
        assert other.asked == []
    with listing_server(fake.VLLM, tls=True) as secure:
        assert "is not trusted (self-signed" in refused(secure.url)
        assert secure.asked == []
        assert add(secure.url, "--ca-file", CERTIFICATE).exit_code == 0
        assert entry(root, "Big")["upstream"]["ca_file"] == str(CERTIFICATE)
        (tmp_path / "empty.pem").touch()
        assert "has no certificates to trust" in refused(secure.url, "--ca-file", tmp_path / "empty.pem", "--id", "x")
    assert "speaks no TLS" in refused(server.url.replace("http://", "https://"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["ftp://h/v1"], "BASE_URL must be http://"),
        (["http://me:secret@h/v1"], "BASE_URL must have no user or password"),
        (["http://h/v1?x=1"], "BASE_URL must have no ? or #"),
        (["http://h/v1", "http://h/v1/"], "upstream.base_urls [1] is the same as [0]"),
        (["http://h/v1", "--max-concurrent", "0"], "upstream.max_concurrent must be"),
        (["http://h/v1", "--ctx-len", "1"], "upstream.ctx_len must be"),
        (["http://h/v1", "--timeout", "nan"], "upstream.timeout must be"),
        (["http://h/v1", "--kind", "tgi"], "'tgi' is not one of"),
        (["http://h/v1", "--api-key-file", "a.key", "--api-key-env", "JANFLASK_UPSTREAM_A"], "name one"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage(root: Path, given: list[str], says: str) -> None:
    result = add(*given)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "secret" not in result.output


# --- the other commands -------------------------------------------------------------------------------------------


def test_the_other_commands_know_it(root: Path, server: FakeOpenAI, key_file: Path) -> None:
    assert add(server.url, "--api-key-file", key_file).exit_code == 0
    listed = run("list").stdout.splitlines()
    assert listed[0].split() == [
        "MODEL",
        "STATE",
        "SIZE",
        "QUANTIZATION",
        "PARAMETERS",
        "CONTEXT",
        "CREATED",
        "UPSTREAM",
    ]
    assert listed[1].split()[0:6] == ["Big", "downloaded", "-", "-", "-", "32768"]
    assert listed[1].split()[-1] == server.url
    shown = run("show", "Big").stdout
    for line in (["upstream", "vllm"], ["named", "there", "org/Big"], ["context", "32768", "tokens"]):
        assert line in [row.split() for row in shown.splitlines()]
    assert f"{server.url} not asked yet, 0/64 requests" in shown
    result = run("set", "Big", "ctx_len=4096")
    assert result.exit_code == 1
    assert "settings.ctx_len cannot be set: Big is run by another server" in result.stderr
    assert "janflask chat Big" in welcome(Settings.from_env())
    assert run("rm", "-y", "Big").stdout.startswith("Big is deleted")
    assert not (root / "Big").exists()
    assert key_file.exists()


def test_the_doctor_looks_at_what_it_names(root: Path, server: FakeOpenAI, key_file: Path, tmp_path: Path) -> None:
    assert add(server.url, "--api-key-file", key_file, "--id", "a").exit_code == 0
    assert CliRunner().invoke(doctor).exit_code == 0
    key_file.chmod(0o644)
    content = entry(root, "a")
    content["upstream"]["ca_file"] = "gone.pem"
    (root / "a" / "model.json").write_text(json.dumps(content))
    result = CliRunner().invoke(doctor, ["--json"])
    problems = [finding["problem"] for finding in json.loads(result.stdout)]
    assert result.exit_code == 1
    assert len(problems) == 2
    assert "chmod 600 it" in problems[0]
    assert f"the file {root}/a/gone.pem, which has the certificates to trust, cannot be used" in problems[1]
    assert KEY not in result.output
