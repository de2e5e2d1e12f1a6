"""Keys as the official SDKs and our own commands send them, over a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import Callable

import anthropic
import openai
import pytest
from click.testing import CliRunner

from janflask.access.scopes import USUAL, Scope
from janflask.cli.commands import cli
from tests.unit.api.conftest import World

MESSAGES = [{"role": "user", "content": "Hi"}]
MakeKey = Callable[..., str]


@pytest.fixture
def make_key(world: World) -> MakeKey:
    return lambda *scopes: world.make_key(*(scopes or USUAL)).text


def test_openais(server: str, make_key: MakeKey) -> None:
    good, stores = make_key(), make_key(Scope.CONVERSATIONS)
    with openai.OpenAI(base_url=f"{server}/v1", api_key=good, max_retries=0) as sdk:
        assert sdk.models.list().data[0].id == "tiny"
        answer = sdk.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8)  # type: ignore[arg-type]
        assert answer.choices[0].message.content
        stream = sdk.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, stream=True)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert sdk.conversations.create().id
        with pytest.raises(openai.PermissionDeniedError, match="lacks admin") as denied:
            sdk.models.delete("tiny")
        assert denied.value.code == "missing_scope"
        with pytest.raises(openai.PermissionDeniedError, match="lacks inference"):
            sdk.with_options(api_key=stores).chat.completions.create(model="tiny", messages=MESSAGES)  # type: ignore[arg-type]
        for wrong in ("none", good[:-1] + "!", good.upper()):
            with pytest.raises(openai.AuthenticationError) as refused:
                sdk.with_options(api_key=wrong).models.list()
            assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("by", ["api_key", "auth_token"])
def test_anthropics(server: str, make_key: MakeKey, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def client(key: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=server, max_retries=0, **{by: key})  # type: ignore[arg-type]

    def ask(claude: anthropic.Anthropic) -> anthropic.types.Message:
        return claude.messages.create(model="tiny", max_tokens=8, messages=MESSAGES)  # type: ignore[arg-type]

    with client(make_key()) as claude:
        assert ask(claude).content
        assert claude.models.list().data[0].id == "tiny"
        with claude.messages.stream(model="tiny", max_tokens=8, messages=MESSAGES) as stream:  # type: ignore[arg-type]
            assert "".join(stream.text_stream)
    with client(make_key(Scope.CONVERSATIONS)) as claude, pytest.raises(anthropic.PermissionDeniedError, match="lacks"):
        ask(claude)
    for wrong in ("none", "sk-ant-api03-x"):
        with client(wrong) as claude:
            with pytest.raises(anthropic.AuthenticationError) as refused:
                ask(claude)
            assert refused.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
            with pytest.raises(anthropic.AuthenticationError):
                claude.models.list()


def test_our_own_commands(server: str, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch) -> None:
    good, admin = make_key(), make_key(Scope.ADMIN)

    def run(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["models", *args, "--url", server])
        assert result.exit_code == code, result.output
        return result.output

    assert "JANFLASK_API_KEY" in run("list", code=1)
    monkeypatch.setenv("JANFLASK_API_KEY", "jf_wrong")
    told = run("list", code=1)
    assert "none of the server's" in told
    assert "JANFLASK_API_KEY" in told
    assert "jf_wrong" not in told
    monkeypatch.setenv("JANFLASK_API_KEY", good)
    assert [model["id"] for model in json.loads(run("list", "--json"))] == ["tiny"]
    assert "lacks admin" in run("stop", "tiny", code=1)
    monkeypatch.setenv("JANFLASK_API_KEY", admin)
    assert "tiny" in run("stop", "tiny")
    monkeypatch.setenv("JANFLASK_API_KEY", "")
    assert "asks for an API key" in run("list", code=1)
