#!/usr/bin/env bash
# prometheus-client 0.26.0: a name with a colon is another one where OpenMetrics is asked for as Prometheus 2 does.
#
# Colons are allowed in the names of metrics, and vLLM's all have one. Without `escaping=allow-utf-8` in `Accept`, which
# only Prometheus 3 sends, `# HELP` and `# TYPE` still tell the name as it is, and the samples below them are called
# `vllm_...`: the same server has other names for another Prometheus, and boards made for one are empty with the other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "prometheus-client==0.26.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder

registry = CollectorRegistry()
Gauge("vllm:num_requests_running", "Running.", ["model_name"], registry=registry).labels("m").set(1)
for who, accept in {
    "Prometheus 2": "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
    "Prometheus 3": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2",
    "text alone": "text/plain;version=0.0.4",
}.items():
    encode, _ = choose_encoder(accept)
    for line in encode(registry).decode().splitlines():
        if "TYPE" in line or not line.startswith("#"):
            print(f"{who}: {line}")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
Prometheus 2: # TYPE vllm:num_requests_running gauge
Prometheus 2: vllm_num_requests_running{model_name="m"} 1.0
Prometheus 3: # TYPE vllm:num_requests_running gauge
Prometheus 3: vllm:num_requests_running{model_name="m"} 1.0
text alone: # TYPE vllm:num_requests_running gauge
text alone: vllm:num_requests_running{model_name="m"} 1.0
SEEN
