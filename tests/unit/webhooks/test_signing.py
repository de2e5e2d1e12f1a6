"""Signatures: the standard's own example, and what its library says of ours."""

from __future__ import annotations

import time

import openai
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from janflask.webhooks import signing
from janflask.webhooks.events import body

BODY = body("evt_1", "response.completed", {"id": "resp_1"}, 1_764_480_000_000)


def signed(*secrets: str) -> dict[str, str]:
    return signing.headers(secrets, "evt_1", int(time.time()), BODY)


def test_the_example_of_the_standard() -> None:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, its test vector."""
    secret, content = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    headers = signing.headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"


def test_the_standards_library_takes_it() -> None:
    secret = signing.new_secret()
    told = Webhook(secret).verify(BODY, signed(secret))
    assert told["type"] == "response.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signed(secret))
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(BODY, signed(secret))


def test_openais_sdk_takes_it() -> None:
    secret = signing.new_secret()
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        event = client.webhooks.unwrap(BODY.decode(), signed(secret))
    assert (event.id, event.object, event.type, event.created_at) == (
        "evt_1",
        "event",
        "response.completed",
        1764480000,
    )
    assert event.data.id == "resp_1"


def test_openais_sdk_takes_types_that_are_not_openais() -> None:
    """Of whatever class it makes them."""
    secret, content = signing.new_secret(), body("evt_1", "thread.created", {"id": "t"}, 1_764_480_000_000)
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        event = client.webhooks.unwrap(content.decode(), signing.headers([secret], "evt_1", int(time.time()), content))
    assert (str(event.type), event.data.id) == ("thread.created", "t")


def test_during_a_change_of_secrets_either_is_enough() -> None:
    old, new = signing.new_secret(), signing.new_secret()
    headers = signed(new, old)
    assert Webhook(old).verify(BODY, headers) == Webhook(new).verify(BODY, headers)


@pytest.mark.parametrize("secret", ["", "abc", "whsec_", "whsec_!", "whsec_c2hvcnQ=", "whsec_" + "A" * 100])
def test_what_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        signing.key_of(secret)
