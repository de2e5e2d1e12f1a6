"""What an engine is started with: request over model over server, and what is refused."""

from __future__ import annotations

from dataclasses import fields

import pytest

from janflask.errors import InvalidRequestError
from janflask.models.engine_settings import EngineSettings, engine_settings, read_settings
from janflask.settings import Settings, text_of
from janflask.settings.engine_table import described

DEFAULTS = Settings.from_env({"JANFLASK_CTX_LEN": "1024", "JANFLASK_QUEUE_LIMIT": "3"})


def test_request_over_model_over_server() -> None:
    assert engine_settings({}, DEFAULTS).ctx_len == 1024
    assert engine_settings({"ctx_len": 2048}, DEFAULTS).ctx_len == 2048
    assert engine_settings({"ctx_len": 2048}, DEFAULTS, {"ctx_len": 4096}).ctx_len == 4096
    assert engine_settings({"ctx_len": 2048}, DEFAULTS, {"ctx_len": None}).ctx_len == 2048
    assert engine_settings({"ctx_len": 2048}, DEFAULTS, {"ctx_len": "auto"}).ctx_len is None
    assert engine_settings({}, DEFAULTS).queue_limit == 3


def test_without_any_wish_it_is_the_default() -> None:
    assert engine_settings({}, Settings.from_env({})) == EngineSettings()


def test_numbers_may_be_text() -> None:
    given = {"ctx_len": "2048", "n_parallel": 4.0, "flash_attn": "on", "kv_unified": False, "cache_type_k": "Q8_0"}
    got = engine_settings(given, DEFAULTS)
    assert (got.ctx_len, got.n_parallel, got.flash_attn, got.kv_unified) == (2048, 4, True, False)
    assert (got.cache_type_k, got.cache_type_v) == ("q8_0", "f16")


def test_jans_other_settings_are_not_ours() -> None:
    extras = {"prompt_template": "x", "llama_model_path": "/x", "vision_model": True, "pre_prompt": "y"}
    assert engine_settings(extras | {"anything": 1}, DEFAULTS) == engine_settings({}, DEFAULTS, extras)


def test_every_setting_can_be_given_as_jan_writes_it() -> None:
    given = {"embedding": "true", "mlock": "1", "mmap": False, "rope_freq_base": "1e6", "rope_freq_scale": 0.5}
    got = engine_settings(given | {"rope_scaling": "YaRN", "lora": "a.gguf", "lora_scale": "0.5"}, DEFAULTS)
    assert (got.embedding, got.mlock, got.mmap) == (True, True, False)
    assert (got.rope_freq_base, got.rope_freq_scale, got.rope_scaling) == (1e6, 0.5, "yarn")
    assert (got.lora, got.lora_scale) == ("a.gguf", 0.5)
    auto = engine_settings(
        {"embedding": True, "rope_freq_base": 2, "lora": "a.gguf", "rope_scaling": "linear"}, DEFAULTS
    )
    assert auto.embedding is True
    undone = {"embedding": "auto", "rope_freq_base": "auto", "lora": "", "rope_scaling": "auto"}
    assert engine_settings({"lora": "a.gguf", "embedding": True}, DEFAULTS, undone) == engine_settings({}, DEFAULTS)


def test_every_default_is_told_or_in_words() -> None:
    for setting in described():
        assert (setting.default is None) == bool(setting.auto), f"say what happens without {setting.name}"
        if setting.default is not None:
            given = engine_settings({}, DEFAULTS, {setting.name: text_of(setting.default)})
            assert getattr(given, setting.name) == setting.default, "its own parser takes it"


def test_the_server_has_the_same_setting() -> None:
    """A variable and a model's setting of one name are one: the same parser, the same default."""
    server = {item.name: item for item in fields(Settings)}
    shared = [setting.name for setting in described() if setting.in_environment]
    assert shared == [item.name for item in fields(EngineSettings) if item.name in server]
    for item in fields(EngineSettings):
        if item.name in server:
            assert (server[item.name].default, server[item.name].metadata) == (item.default, item.metadata)
    settings = Settings.from_env({"JANFLASK_PREFIX_CACHE": "0", "JANFLASK_START_TIMEOUT": "7"})
    assert engine_settings({}, settings) == EngineSettings(prefix_cache=False, start_timeout=7.0)


def test_every_setting_has_a_parser() -> None:
    for item in fields(EngineSettings):
        with pytest.raises(InvalidRequestError):
            engine_settings({}, DEFAULTS, {item.name: "\0"})


@pytest.mark.parametrize(
    "place", ["/elsewhere/a.gguf", "../a.gguf", "sub/a.gguf", "file:///a.gguf", "C:\\a.gguf", ".a"]
)
def test_a_request_names_no_file_outside_the_models_folder(place: str) -> None:
    with pytest.raises(InvalidRequestError, match="plain name of a file") as caught:
        engine_settings({}, DEFAULTS, {"lora": place})
    assert caught.value.param == "settings.lora"
    assert engine_settings({"lora": place}, DEFAULTS).lora == place, "model.json may"
    assert engine_settings({"lora": place}, DEFAULTS, {"lora": place}).lora == place, "and it may be sent back"
    assert engine_settings({}, DEFAULTS, {"mmproj": place}).mmproj is None, "Jan sends it; nothing is opened"
    assert engine_settings({"mmproj": "b.gguf"}, DEFAULTS, {"mmproj": place}).mmproj == "b.gguf"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ctx_len", "many", "whole number"),
        ("ctx_len", 2, "from 16"),
        ("ctx_len", 20.5, "whole number"),
        ("ctx_len", True, "whole number"),
        ("ctx_len", [1], "number or text"),
        ("ctx_len", b"1", "number or text"),
        ("n_parallel", 0, "from 1"),
        ("flash_attn", "maybe", "1 or 0"),
        ("cache_type_v", "q9", "one of f32"),
        ("mlock", "perhaps", "1 or 0"),
        ("embedding", 2, "1 or 0"),
        ("rope_freq_base", 0, "from 1 to 1e"),
        ("rope_freq_base", "nan", "from 1 to"),
        ("rope_freq_scale", -1, "from 0.0001 to 100"),
        ("rope_scaling", "longrope", "one of none, linear, yarn"),
        ("lora_scale", "inf", "from -100 to 100"),
        ("lora", "a\0b", "a file's path"),
        ("lora", ["a"], "number or text"),
        ("start_timeout", "inf", "seconds"),
        ("start_timeout", "nan", "seconds"),
    ],
)
def test_a_bad_value_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        engine_settings({}, DEFAULTS, {name: value})
    assert caught.value.param == f"settings.{name}"
    assert "in the request" in caught.value.message
    with pytest.raises(InvalidRequestError, match=r"in model\.json"):
        engine_settings({name: value}, DEFAULTS)


def test_an_unknown_override_names_the_known() -> None:
    with pytest.raises(InvalidRequestError, match="ctx_len") as caught:
        engine_settings({}, DEFAULTS, {"ctx_length": 1})
    assert caught.value.param == "settings.ctx_length"


def test_settings_that_lay_on_a_disk() -> None:
    given = {"ctx_len": "2048", "ngl": 3.0, "vulkan": True, "mlock": None, "mmap": "maybe", "n_parallel": 0}
    usable, odd = read_settings(given)
    assert usable == {"ctx_len": "2048", "ngl": 3.0}
    assert sorted(odd) == ["mmap", "n_parallel"]
    assert odd["mmap"].startswith("is 'maybe': must be")
    assert (read_settings(None), read_settings({})) == (({}, {}), ({}, {}))
    assert read_settings([5]) == ({}, {"": "must be an object"})
    assert engine_settings({}, DEFAULTS, usable).ctx_len == 2048
