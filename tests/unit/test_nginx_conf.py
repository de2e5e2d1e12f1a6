"""nginx.conf lets through what the server takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from janflask import create_app
from janflask.settings import Settings

CONF = (Path(__file__).resolve().parents[2] / "conf" / "nginx.conf").read_text()


def locations() -> dict[str, str]:
    """What each location holds, by its pattern."""
    return dict(re.findall(r"location (?:~ )?(\S+) \{\n(.*?)\n    \}", CONF, re.DOTALL))


def test_bodies(tmp_path: Path) -> None:
    """All may be as large as the server takes them; those that may be huge are not kept by nginx."""
    settings = Settings(data_dir=tmp_path)
    general = re.search(r"^    client_max_body_size (\d+)m;", CONF, re.MULTILINE)
    assert general is not None
    assert settings.max_body_mb < int(general[1]) < settings.max_body_mb + 8
    (pattern,) = [found for found, body in locations().items() if "client_max_body_size" in body]
    assert "client_max_body_size 0;" in locations()[pattern]
    assert "proxy_request_buffering off;" in locations()[pattern]
    rules = {rule.rule for rule in create_app(settings).url_map.iter_rules()}
    assert {rule for rule in rules if re.search(pattern, rule)} == {"/v1/files", "/v1/threads/import"}


def test_a_location_keeps_the_headers_of_all() -> None:
    """nginx gives a location with a proxy_set_header of its own none of the others."""
    assert len(locations()) >= 3
    assert all("proxy_set_header" not in body for body in locations().values())
    assert "proxy_set_header Host $http_host;" in CONF


def test_its_own_refusal_is_one_of_ours() -> None:
    answer = re.search(r"return 413 '(.*)';", CONF)
    assert answer is not None
    assert set(json.loads(answer[1])["error"]) == {"message", "type", "param", "code"}
