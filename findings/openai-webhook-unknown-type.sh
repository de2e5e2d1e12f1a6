#!/usr/bin/env bash
# openai (Python) 3.x: a webhook of a type that the SDK does not know comes back as an event of another type's class.
#
# `client.webhooks.unwrap` checks the signature, and then makes of a body whose `type` is none of its own an instance of
# one of its classes all the same, without an error or a warning: `isinstance` and `match` by class take it for an event
# that it is not. Types that are new at OpenAI, or another server's own, come so. `event.type` is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "openai==3.57.0" "standardwebhooks==1.1.0"
cat > "$folder/show.py" <<'PYTHON'
import base64
import json
from datetime import datetime, timezone

import openai
from standardwebhooks import Webhook

secret = "whsec_" + base64.b64encode(b"a" * 32).decode()
client = openai.OpenAI(api_key="none", webhook_secret=secret)
print("openai", openai.__version__)
for kind in ("response.completed", "response.archived", "thread.created"):
    body = json.dumps({"id": "evt_1", "object": "event", "created_at": 1, "type": kind, "data": {"id": "x"}})
    now = datetime.now(tz=timezone.utc)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("evt_1", now, body),
    }
    event = client.webhooks.unwrap(body, headers)
    print(kind, "is", type(event).__name__, "with type", event.type)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
openai 3.57.0
response.completed is ResponseCompletedWebhookEvent with type response.completed
response.archived is AgentEnvironmentExpiredWebhookEvent with type response.archived
thread.created is AgentEnvironmentExpiredWebhookEvent with type thread.created
SEEN
