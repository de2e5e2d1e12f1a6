"""The downloads of a supervisor, whose code is imported when there is something to fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from janflask.downloads.names import FOLDER
from janflask.errors import UnavailableError
from janflask.models.catalog import ModelCatalog
from janflask.models.state import DownloadRequest
from janflask.settings import Settings
from janflask.supervisor.fetching import Fetching

SOURCE = "https://127.0.0.1:9/model.gguf"  # nobody listens there


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    settings = Settings(data_dir=tmp_path, allow_private_sources=True)
    return Fetching(settings, ModelCatalog(settings.models_dir))


def test_nothing_is_made_where_nothing_is_fetched(fetching: Fetching) -> None:
    fetching.resume()
    assert fetching.states() == {}
    assert not fetching.cancel("m")
    fetching.close()
    assert fetching._manager is None


def test_what_an_earlier_one_left_goes_on(tmp_path: Path, fetching: Fetching) -> None:
    assert fetching.start(DownloadRequest(source=SOURCE, model_id="m")) == "m"
    fetching.close()
    assert (tmp_path / "models" / FOLDER).is_dir()
    settings = Settings(data_dir=tmp_path, allow_private_sources=True)
    second = Fetching(settings, ModelCatalog(settings.models_dir))
    second.resume()
    assert list(second.states()) == ["m"]
    assert second.cancel("m")
    assert second.states() == {}
    second.close()


def test_none_begins_after_the_end(fetching: Fetching) -> None:
    fetching.close()
    with pytest.raises(UnavailableError):
        fetching.start(DownloadRequest(source=SOURCE, model_id="m"))
