"""What a user may write for a model's source, and the files that it means on a stand-in of the hub."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import huggingface_hub
import pytest

from janflask.downloads.hub import ENDPOINT, Hub
from janflask.downloads.job import check_files
from janflask.downloads.sources import HubSource, Resolved, UrlSource, parse
from janflask.errors import (
    InvalidRequestError,
    JanflaskError,
    SettingsError,
    SourceError,
    SourceUnavailableError,
    UnsafeSourceError,
)
from tests.fakes.hub import TOKEN, FakeHub, fake_hub

PUBLIC = Hub()
REPOSITORY = "org/Some-Model-GGUF"


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with fake_hub() as hub:
        yield hub
        huggingface_hub.close_session()  # its connections are kept otherwise


def names(*paths: str) -> dict[str, bytes]:
    return {path: b"GGUF" + path.encode() for path in paths}


def resolve(fake: FakeHub, source: str, token: str | None = None, sha256: str | None = None) -> Resolved:
    hub = Hub(fake.endpoint, token, timeout=5.0)
    return parse(source, hub).resolve(hub, sha256)


def paths(fake: FakeHub, resolved: Resolved) -> list[str]:
    """The files in the repository, without where it is."""
    commit = fake.repositories[REPOSITORY.lower()].commit
    start = f"{fake.endpoint}/{REPOSITORY}/resolve/{commit}/"
    assert all(file.url.startswith(start) for file in resolved.files)
    return [file.url.removeprefix(start) for file in resolved.files]


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "default_id"),
    [
        ("https://h.example/a/My%20Model.Q4_K_M.gguf", "https://h.example/a/My%20Model.Q4_K_M.gguf", "My_Model.Q4_K_M"),
        ("  HTTPS://H.example:443/m.gguf#part ", "https://h.example/m.gguf", "m"),
        ("http://h.example/m.GGUF?sig=a&b=c", "http://h.example/m.GGUF?sig=a&b=c", "m"),
        ("https://h.example/get?file=m.gguf&x=1", "https://h.example/get?file=m.gguf&x=1", "m"),
        ("https://h.example/download", "https://h.example/download", "download"),
        ("https://h.example/m-00002-of-00003.gguf?s=1", "https://h.example/m-00001-of-00003.gguf?s=1", "m"),
        ("https://h.example/..%2f.hidden.gguf", "https://h.example/..%2f.hidden.gguf", "hidden"),
        ("https://h.example/%E6%A8%A1.gguf", "https://h.example/%E6%A8%A1.gguf", "model"),
    ],
)
def test_a_url(text: str, key: str, default_id: str) -> None:
    source = parse(text, PUBLIC)
    assert isinstance(source, UrlSource)
    assert (source.key, source.default_id, source.source_url) == (key, default_id, text.strip())
    check_files(source.resolve(PUBLIC).files)


def test_the_parts_of_a_split_url_follow_from_any_of_them() -> None:
    resolved = parse("https://h.example/d/m-00002-of-00003.gguf?s=1", PUBLIC).resolve(PUBLIC, "AB" * 32)
    assert [file.url for file in resolved.files] == [
        f"https://h.example/d/m-{number:05d}-of-00003.gguf?s=1" for number in (1, 2, 3)
    ]
    assert [file.sha256 for file in resolved.files] == ["ab" * 32, None, None]
    assert resolved.mmproj is None


@pytest.mark.parametrize(
    ("text", "key", "default_id"),
    [
        ("hf:Org/Repo-GGUF", "hf:org/repo-gguf@main", "Repo"),
        ("hf:org/repo:q4_k_m", "hf:org/repo@main:Q4_K_M", "repo-Q4_K_M"),
        ("hf:org/repo@dev:Q8_0", "hf:org/repo@dev:Q8_0", "repo-Q8_0"),
        ("hf:org/repo:Q8_0@refs/pr/1", "hf:org/repo@refs/pr/1:Q8_0", "repo-Q8_0"),
        ("hf://org/repo/a/b.gguf", "hf:org/repo@main/a/b.gguf", "b"),
        ("HF:org/repo/b.gguf@v1.0", "hf:org/repo@v1.0/b.gguf", "b"),
        ("hf:org/repo/m-00002-of-00002.gguf", "hf:org/repo@main/m-00001-of-00002.gguf", "m"),
        ("https://huggingface.co/org/repo", "hf:org/repo@main", "repo"),
        ("https://huggingface.co/org/repo/blob/main/a/b.gguf", "hf:org/repo@main/a/b.gguf", "b"),
        ("https://hf.co/org/repo/resolve/v1/b.gguf?download=true", "hf:org/repo@v1/b.gguf", "b"),
        ("https://huggingface.co/org/repo/resolve/refs%2Fpr%2F1/b.gguf", "hf:org/repo@refs/pr/1/b.gguf", "b"),
        ("https://huggingface.co/org/repo/blob/refs/pr/1/b.gguf", "hf:org/repo@refs/pr/1/b.gguf", "b"),
        ("https://hub.example/mirror/org/repo/resolve/main/b.gguf", "hf:org/repo@main/b.gguf", "b"),
    ],
)
def test_a_place_on_the_hub(text: str, key: str, default_id: str) -> None:
    source = parse(text, Hub("https://hub.example/mirror"))
    assert isinstance(source, HubSource)
    assert (source.key, source.default_id, source.source_url) == (key, default_id, text)


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/datasets/org/data/resolve/main/m.gguf",
        "https://huggingface.co.example/org/repo/resolve/main/m.gguf",
        "https://hub.example/other/org/repo/resolve/main/m.gguf",
        "https://hub.example/mirror/files/m.gguf",
    ],
)
def test_what_only_looks_like_the_hub_is_a_url(text: str) -> None:
    assert isinstance(parse(text, Hub("https://hub.example/mirror")), UrlSource)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no source"),
        ("org/repo", "no source"),
        ("/etc/passwd", "no source"),
        ("hf:", "none of"),
        ("hf:org", "none of"),
        ("hf:org/repo@a@b", "none of"),
        ("hf:org/repo@v1/b.gguf@v2", "none of"),
        ("hf:../repo", "repository's name"),
        ("hf:org/re po", "repository's name"),
        ("hf:org/repo--x", "repository's name"),
        ("hf:org/repo/../b.gguf", "no path"),
        ("hf:org/repo//b.gguf", "no path"),
        ("hf:org/repo/b\n.gguf", "no path"),
        ("hf:org/repo/readme.md", "no path"),
        ("hf:org/repo:Q4/K", "none of"),
        ("hf:org/repo:Q4 K", "no quantization"),
        ("hf:org/repo@..:Q8_0", "no revision"),
        ("hf:org/repo:Q8_0@a/../b", "no revision"),
        ("hf:org/repo/mmproj-f16.gguf", "projector"),
        ("hf:org/repo/m-00003-of-00002.gguf", "part 3 of 2"),
        ("hf:org/repo/m-00001-of-99999.gguf", "part 1 of 99999"),
        ("https://h.example/", "names no file"),
        ("https://h.example/mmproj-m.gguf", "projector"),
        ("https://huggingface.co/org/repo/blob/main/readme.md", "no path"),
        ("https://huggingface.co/org/repo/resolve/main/%2e%2e/b.gguf", "no path"),
        ("hf:" + "x" * 9000, "at most"),
    ],
)
def test_what_is_no_source(text: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as refused:
        parse(text, PUBLIC)
    assert refused.value.param == "source_url"
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["file:///etc/passwd", "ftp://h/m.gguf", "https://user:secret@h/m.gguf"])
def test_other_schemes_and_passwords_are_unsafe(text: str) -> None:
    with pytest.raises(UnsafeSourceError):
        parse(text, PUBLIC)


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_hub_of_the_environment() -> None:
    assert Hub.from_env({}) == Hub(ENDPOINT, None)
    assert Hub.from_env({}).private_origin == ""
    own = Hub.from_env({"HF_ENDPOINT": "http://10.0.0.1:80/hub/", "HF_TOKEN": " hf_x\n"})
    assert (own.endpoint, own.token) == ("http://10.0.0.1:80/hub", "hf_x")
    assert own.origin == own.private_origin == "http://10.0.0.1"
    assert "hf_x" not in repr(own)


@pytest.mark.parametrize(
    "env",
    [
        {"HF_ENDPOINT": "file:///"},
        {"HF_ENDPOINT": "h.example"},
        {"HF_ENDPOINT": "https://h.example?x=1"},
        {"HF_TOKEN": "a b"},
    ],
)
def test_an_environment_that_cannot_be_used(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="HF_"):
        Hub.from_env(env)


def test_the_library_is_imported_when_it_is_needed() -> None:
    script = "import sys, janflask.downloads.sources; print('huggingface_hub' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# --- which file -------------------------------------------------------------------------------------------------------


def test_a_file_by_its_path(fake: FakeHub) -> None:
    repository = fake.add(REPOSITORY, names("a/Big Model.Q4_K_M.gguf", "other.gguf"), tags=["gguf", "en"])
    data = repository.files["a/Big Model.Q4_K_M.gguf"]
    resolved = resolve(fake, f"hf:{REPOSITORY}/a/Big Model.Q4_K_M.gguf")
    assert paths(fake, resolved) == ["a/Big%20Model.Q4_K_M.gguf"]
    file = resolved.files[0]
    assert (file.name, file.size, file.sha256) == (
        "Big_Model.Q4_K_M.gguf",
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    assert resolved.mmproj is None
    assert resolved.metadata == {
        "repository": REPOSITORY,
        "revision": repository.commit,
        "author": "org",
        "tags": ["gguf", "en"],
    }


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q8_0", "m.q8_0.gguf"),
        ("Q4_K", "m-Q4_K.gguf"),
        ("IQ4_XS", "m-IQ4_XS.gguf"),
        ("UD-Q2_K_XL", "m-UD-Q2_K_XL.gguf"),
        ("BF16", "BF16/m-part.gguf"),
    ],
)
def test_a_file_by_its_quantization(fake: FakeHub, wanted: str, found: str) -> None:
    files = ("m-Q4_K_M.gguf", "m.q8_0.gguf", "m-Q4_K.gguf", "m-IQ4_XS.gguf", "m-UD-Q2_K_XL.gguf", "BF16/m-part.gguf")
    fake.add(REPOSITORY, names(*files, "m-imatrix.gguf", "mmproj-BF16.gguf", "README.md"))
    assert paths(fake, resolve(fake, f"hf:{REPOSITORY}:{wanted}")) == [found]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (":Q5_K_M", "no Q5_K_M.*a-Q4_K_M.gguf, b-Q4_K_M.gguf, c-Q8_0.gguf"),
        (":Q4_K_M", "more than one Q4_K_M.*a-Q4_K_M.gguf, b-Q4_K_M.gguf$"),
        (":XS", "no XS"),
        ("", "more than one model.*a-Q4_K_M.gguf"),
        ("/d.gguf", "no d.gguf.*a-Q4_K_M.gguf"),
    ],
)
def test_a_choice_that_is_not_clear_names_what_there_is(fake: FakeHub, wanted: str, says: str) -> None:
    fake.add(REPOSITORY, names("a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "c-Q8_0.gguf"))
    with pytest.raises(SourceError, match=says):
        resolve(fake, f"hf:{REPOSITORY}{wanted}")


def test_a_repository_alone(fake: FakeHub) -> None:
    repository = fake.add(REPOSITORY, names("m-Q2_K.gguf", "mmproj.gguf", "readme.md"))
    assert paths(fake, resolve(fake, f"hf:{REPOSITORY}")) == ["m-Q2_K.gguf"]
    repository.files = names("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf")
    assert paths(fake, resolve(fake, f"{fake.endpoint}/{REPOSITORY}")) == ["m-Q4_K_M.gguf"]
    repository.files = names("m-Q2_K.gguf", "m-Q8_0.gguf")
    with pytest.raises(SourceError, match=r"m-Q2_K.gguf, m-Q8_0.gguf"):
        resolve(fake, f"hf:{REPOSITORY}")
    repository.files = names("model.safetensors", "mmproj-f16.gguf")
    with pytest.raises(SourceError, match="no GGUF model"):
        resolve(fake, f"hf:{REPOSITORY}")


def test_a_split_model_is_one(fake: FakeHub) -> None:
    parts = [f"Q8_0/m-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    repository = fake.add(REPOSITORY, names(parts[2], parts[0], "m-Q4_0.gguf", parts[1]))
    for source in (":Q8_0", f"/{parts[0]}", f"/{parts[2]}"):
        assert paths(fake, resolve(fake, f"hf:{REPOSITORY}{source}")) == parts
    del repository.files[parts[0]]
    with pytest.raises(SourceError, match=r"not whole.*00001-of-00003.gguf missing"):
        resolve(fake, f"hf:{REPOSITORY}:Q8_0")


@pytest.mark.parametrize(
    ("beside", "chosen"),
    [
        (["mmproj-m-bf16.gguf", "mmproj-m-f16.gguf", "mmproj-m-Q8_0.gguf"], "mmproj-m-f16.gguf"),
        (["mmproj-m-f32.gguf", "mmproj-m-BF16.gguf"], "mmproj-m-BF16.gguf"),
        (["a/mmproj-m-Q8_0.gguf", "mmproj-m-f16.gguf"], "mmproj-m-Q8_0.gguf"),
        (["b/mmproj-m-f16.gguf"], None),
        (["m-mmproj-f16.gguf"], "mmproj-m-mmproj-f16.gguf"),
        (["mmproj.gguf", "mmproj-readme.md"], "mmproj.gguf"),
    ],
)
def test_the_projector_comes_along(fake: FakeHub, beside: list[str], chosen: str | None) -> None:
    fake.add(REPOSITORY, names("a/m-Q4_0.gguf", *beside))
    resolved = resolve(fake, f"hf:{REPOSITORY}/a/m-Q4_0.gguf")
    assert (resolved.mmproj and resolved.mmproj.name) == chosen
    if resolved.mmproj:
        assert resolved.mmproj.sha256


def test_names_of_the_hub_are_no_paths(fake: FakeHub) -> None:
    hostile = (
        "../../../evil.gguf",
        "/etc/evil2.gguf",
        "x/\x00evil3.gguf",
        "a\\..\\evil4.gguf",
        "....gguf",
        "~/e5.gguf",
    )
    fake.add(REPOSITORY, names(*hostile, "\u202egguf.m-Q4_K_M.gguf", "ü ber-Q4_K_M.gguf"))
    resolved = resolve(fake, f"hf:{REPOSITORY}")
    assert [file.name for file in resolved.files] == ["ber-Q4_K_M.gguf"]
    for wanted in ("evil", "evil2", "evil4", "e5"):
        file = resolve(fake, f"hf:{REPOSITORY}:{wanted}").files[0]
        assert file.name == f"{wanted}.gguf"
        check_files((file,))
    with pytest.raises(SourceError, match="no evil3"):
        resolve(fake, f"hf:{REPOSITORY}:evil3")


# --- versions, hashes, tokens -----------------------------------------------------------------------------------------


def test_all_files_are_of_one_commit(fake: FakeHub) -> None:
    repository = fake.add(REPOSITORY, names("m.gguf", "mmproj.gguf"), revisions={"main": "a" * 40, "v/1": "b" * 40})
    resolved = resolve(fake, f"hf:{REPOSITORY}/m.gguf@v/1")
    assert resolved.mmproj is not None
    assert [file.url for file in (*resolved.files, resolved.mmproj)] == [
        f"{fake.endpoint}/{REPOSITORY}/resolve/{'b' * 40}/{name}" for name in ("m.gguf", "mmproj.gguf")
    ]
    assert repository.commit == "a" * 40
    with pytest.raises(SourceError, match="no version 'v2'"):
        resolve(fake, f"hf:{REPOSITORY}@v2")


def test_a_repository_that_moved(fake: FakeHub) -> None:
    repository = fake.add(REPOSITORY, names("m.gguf"))
    fake.repositories["old/name"] = repository
    assert paths(fake, resolve(fake, "hf:old/name")) == ["m.gguf"]


def test_the_sha256_that_a_user_expects(fake: FakeHub) -> None:
    repository = fake.add(REPOSITORY, names("m.gguf"))
    right = hashlib.sha256(repository.files["m.gguf"]).hexdigest()
    assert resolve(fake, f"hf:{REPOSITORY}", sha256=right.upper()).files[0].sha256 == right
    with pytest.raises(SourceError, match="another file"):
        resolve(fake, f"hf:{REPOSITORY}", sha256="0" * 64)
    repository.plain_git = True
    assert resolve(fake, f"hf:{REPOSITORY}", sha256=right).files[0].sha256 == right
    assert resolve(fake, f"hf:{REPOSITORY}").files[0].sha256 is None


def test_the_token_is_sent_and_nothing_else_is_told(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    fake.add(REPOSITORY, names("m.gguf"), private=True)
    resolve(fake, f"hf:{REPOSITORY}", token=TOKEN)
    with pytest.raises(SourceError, match="set HF_TOKEN"):
        resolve(fake, f"hf:{REPOSITORY}")
    (path, with_token), (_, without) = fake.asked
    assert path == f"/api/models/{REPOSITORY}?blobs=true"
    assert with_token["authorization"] == f"Bearer {TOKEN}"
    assert with_token["user-agent"] == "janflask"
    assert "authorization" not in without


@pytest.mark.parametrize(
    ("about", "token", "says"),
    [
        ({"gated": "manual"}, None, "accept its terms at http.*and set HF_TOKEN"),
        ({"fault": 401}, TOKEN, "there is no|HF_TOKEN"),
        ({"fault": 403}, TOKEN, "HF_TOKEN is wrong, or may not read it"),
        ({"fault": 403}, None, "set HF_TOKEN"),
        ({"fault": 404}, None, "there is no org/Some-Model-GGUF"),
        ({"fault": 400}, None, "refuses to tell"),
    ],
)
def test_a_refusal_says_what_to_do(fake: FakeHub, about: dict[str, object], token: str | None, says: str) -> None:
    fake.add(REPOSITORY, names("m.gguf"), **about)
    with pytest.raises(SourceError, match=says) as refused:
        resolve(fake, f"hf:{REPOSITORY}", token)
    assert refused.value.status == 400


def test_a_gated_repository_with_a_token(fake: FakeHub) -> None:
    fake.add(REPOSITORY, names("m.gguf"), gated="auto")
    assert paths(fake, resolve(fake, f"hf:{REPOSITORY}", TOKEN)) == ["m.gguf"]


def test_an_unknown_repository(fake: FakeHub) -> None:
    with pytest.raises(SourceError, match=r"there is no org/none on .*set HF_TOKEN"):
        resolve(fake, "hf:org/none")
    with pytest.raises(SourceError, match=r"there is no org/none on .*that HF_TOKEN may read it"):
        resolve(fake, "hf:org/none", TOKEN)


@pytest.mark.parametrize(
    ("fault", "says", "retry_after"),
    [(429, "429", 7), (500, "500", None), (503, "503", None), ("html", "HF_ENDPOINT", None), ("nonsense", "HF_", None)],
)
def test_a_hub_in_trouble(fake: FakeHub, fault: int | str, says: str, retry_after: int | None) -> None:
    fake.add(REPOSITORY, names("m.gguf"), fault=fault)
    with pytest.raises(SourceUnavailableError, match=says) as failed:
        resolve(fake, f"hf:{REPOSITORY}")
    assert failed.value.retry_after == retry_after


def test_a_hub_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hub = Hub(f"http://127.0.0.1:{port}")
    with pytest.raises(SourceUnavailableError, match="cannot be reached"):
        parse("hf:org/repo", hub).resolve(hub)
    huggingface_hub.close_session()


def test_a_silent_hub_is_given_up(fake: FakeHub) -> None:
    fake.add(REPOSITORY, names("m.gguf"), fault="silence")
    hub = Hub(fake.endpoint, timeout=0.05)
    with pytest.raises(SourceUnavailableError):
        parse(f"hf:{REPOSITORY}", hub).resolve(hub)


def test_a_repository_of_too_many_files(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janflask.downloads.hub.MAX_FILES", 2)
    fake.add(REPOSITORY, names("a.gguf", "b.gguf", "c.gguf"))
    with pytest.raises(JanflaskError, match="3 files"):
        resolve(fake, f"hf:{REPOSITORY}")
