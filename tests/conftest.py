"""Fixtures for every kind of test: the starter model's file, and fresh data folders with the model in them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from janflask.access.caller import ANYBODY, asking, working_for
from janflask.downloads.starter import SMOLLM2
from janflask.ipc.request_id import CURRENT
from tests.models.tiny import TinyModels, write_all
from tools import tool_model
from tools.llama_templates import ensure
from tools.starter_model import model_json, write_json
from tools.window_model import GEMMA

ROOT = Path(__file__).resolve().parent.parent


def _starter_candidates() -> list[Path]:
    data_dir = Path(os.environ.get("JANFLASK_DATA_DIR", "data")).expanduser()
    candidates = [(ROOT / data_dir) / "models" / SMOLLM2.id / SMOLLM2.filename]
    if named := os.environ.get("JANFLASK_TEST_GGUF"):
        candidates.insert(0, Path(named).expanduser().absolute())
    return candidates


# Read before `_own_settings` takes the variables away.
_STARTER_CANDIDATES = _starter_candidates()


@pytest.fixture(scope="session", autouse=True)
def _own_settings() -> Iterator[None]:
    """Tests depend on no JANFLASK_* variable of the shell that runs them; those they set themselves they take back."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("JANFLASK_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """A shell's background jobs ignore SIGINT, and so would everything that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_request() -> None:
    """A test begins beside no request: an answer that an earlier one did not close has not ended in this thread."""
    CURRENT.set(None)
    working_for.set(None)
    asking.set(ANYBODY)


@pytest.fixture(scope="session")
def starter_gguf() -> Path:
    """The starter model's GGUF: ``$JANFLASK_TEST_GGUF``, else the one that ``make test`` puts into the data folder."""
    for path in _STARTER_CANDIDATES:
        if path.is_file():
            return path
    tried = ", ".join(str(path) for path in _STARTER_CANDIDATES)
    raise FileNotFoundError(f"the starter model is at none of {tried}; `make model` installs it")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Small GGUFs of every kind, good and broken; see ``tests.models.tiny``. Not to be changed by a test."""
    return write_all(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def llama_templates() -> Path:
    """The folder with chat templates and vocabularies of llama.cpp's sources; ``make test`` has fetched them."""
    return ensure(os.environ)


@pytest.fixture(scope="session")
def tool_gguf() -> Path:
    """The file of a model that was trained to call tools, which ``make agents`` has fetched. Nothing is skipped."""
    return tool_model.ensure(os.environ)


@pytest.fixture(scope="session")
def window_gguf() -> Path:
    """Gemma 3 270M, whose layers have a sliding window; ``make test`` has fetched it."""
    return tool_model.ensure(os.environ, GEMMA)


@pytest.fixture
def data_dir(tmp_path: Path, starter_gguf: Path) -> Path:
    """A fresh data folder with the starter model in it, as ``make run`` would leave it. The weights are not copied."""
    return make_data_dir(tmp_path / "data", starter_gguf)


@pytest.fixture(scope="session")
def session_data_dir(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Path:
    """The same, once for the whole run: for servers that many tests share."""
    return make_data_dir(tmp_path_factory.mktemp("server") / "data", starter_gguf)


def make_data_dir(folder: Path, starter_gguf: Path) -> Path:
    """Lays out ``folder`` as a data folder that holds the starter model; returns it."""
    model = folder / "models" / SMOLLM2.id
    model.mkdir(parents=True)
    link_or_copy(starter_gguf, model / SMOLLM2.filename)
    write_json(model / "model.json", model_json(SMOLLM2, created=1_700_000_000))
    return folder


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows one; it behaves like a file of its own for everything but writing."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
