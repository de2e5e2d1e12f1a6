"""What ends an answer: what the file declares, control tokens, its layout's ends of turn; not a name alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from gguf import TokenType
from llama_cpp import llama_cpp as lib

from janflask.engine.ends import ends, own_types
from janflask.engine.model import Model
from janflask.models.sampling import SamplingParams
from janflask_ext import backend as hot
from janflask_ext.stream import TextStream
from tests.ext.conftest import Load
from tests.ext.real_loop import Engine
from tests.models.tiny import CHAT_TEMPLATE, write_chat

NORMAL, CONTROL, USER_DEFINED = TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED
GEMMA = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"


def end_texts(model: Model) -> set[str]:
    return {model.pieces[token].decode() for token in model.eog}


def named_texts(model: Model) -> set[str]:
    return {model.pieces[token].decode() for token in hot.eog_tokens(model.vocab_address, model.n_vocab)}


@pytest.mark.parametrize("kind", [NORMAL, USER_DEFINED])
@pytest.mark.parametrize("name", ["</s>", "[EOS]", "<EOT>", "<PAD>", "<reponame>", "<|file_sep|>"])
def test_text_with_the_name_of_an_end_is_text(load: Load, tmp_path: Path, caplog, kind: TokenType, name: str) -> None:
    with caplog.at_level(logging.INFO):
        model = load(write_chat(tmp_path / "m.gguf", extra={name: kind}))
    assert named_texts(model) == {"<|endoftext|>", "<|im_end|>", name}
    assert end_texts(model) == {"<|endoftext|>", "<|im_end|>"}
    token = model.pieces.index(name.encode())
    assert TextStream(model.vocab).push(token) == name
    assert f"token {token} " in caplog.text


@pytest.mark.parametrize("name", ["</s>", "[EOS]", "<reponame>"])
def test_a_control_token_of_that_name_is_an_end_and_no_text(load: Load, tmp_path: Path, name: str) -> None:
    model = load(write_chat(tmp_path / "m.gguf", extra={name: CONTROL}))
    assert end_texts(model) == {"<|endoftext|>", "<|im_end|>", name}
    assert TextStream(model.vocab).push(model.pieces.index(name.encode())) == ""


@pytest.mark.parametrize("kind", ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"])
@pytest.mark.parametrize("name", ["</s>", "<over>"])
def test_what_the_file_declares_is_an_end_whatever_its_name_and_type(
    load: Load, tmp_path: Path, kind: str, name: str
) -> None:
    model = load(write_chat(tmp_path / "m.gguf", extra={name: NORMAL}, declared={kind: name}))
    assert name in end_texts(model)


def test_what_ends_no_answer_may_be_declared_too(load: Load, tmp_path: Path) -> None:
    model = load(
        write_chat(tmp_path / "m.gguf", extra={"</s>": NORMAL}, declared={"eos": "<|im_end|>", "unknown": "</s>"})
    )
    assert "</s>" not in end_texts(model)


def test_a_file_that_declares_no_end_has_not_the_one_that_llama_cpp_supposes(load: Load, tmp_path: Path) -> None:
    """Number 11 for any byte-level BPE, which is a comma in GPT-2's own and a letter here."""
    model = load(write_chat(tmp_path / "m.gguf", declared={}))
    assert lib.llama_vocab_is_eog(model.vocab_pointer, 11)
    assert end_texts(model) == {"<|endoftext|>", "<|im_end|>"}


@pytest.mark.parametrize("kind", [NORMAL, USER_DEFINED])
def test_an_ordinary_token_that_ends_the_layouts_turns_ends_an_answer(
    load: Load, tmp_path: Path, kind: TokenType
) -> None:
    """As in files that were converted badly."""
    names = {"<start_of_turn>": kind, "<end_of_turn>": kind, "</s>": kind}
    with_template = write_chat(tmp_path / "m.gguf", extra=names, template=GEMMA, declared={"eos": "<|endoftext|>"})
    assert "<end_of_turn>" in end_texts(load(with_template))
    assert "</s>" not in end_texts(load(with_template))
    assert "</s>" in end_texts(load(with_template, prompt_template="[INST] {prompt} [/INST]</s>"))
    without = write_chat(tmp_path / "n.gguf", extra=names, template=None, declared={"eos": "<|endoftext|>"})
    assert not {"<end_of_turn>", "</s>"} & end_texts(load(without))
    assert "<end_of_turn>" in end_texts(load(without, prompt_template="{prompt}<end_of_turn>\n"))


def test_chatml_is_the_layout_of_a_file_that_brings_none(load: Load, tmp_path: Path) -> None:
    path = write_chat(
        tmp_path / "m.gguf", extra={"<|im_end|>": NORMAL}, template=None, declared={"eos": "<|endoftext|>"}
    )
    assert "<|im_end|>" in end_texts(load(path))
    assert "<|im_end|>" not in end_texts(load(path, prompt_template="Q: {prompt}\nA:"))


def test_types_are_the_files_own() -> None:
    unknown, unused, normal, control, user, byte = (1 << place for place in range(6))
    given = [normal, control, normal | control, user | control, byte | control, unused | control, unknown, 0]
    assert own_types(given) == [normal, control, normal, user, byte, unused | control, unknown, 0]


def test_only_what_llama_cpp_names_can_be_an_end() -> None:
    pieces = [b"a", b"</s>", b"\xff"]
    assert ends([1], own_types([4, 12, 8]), pieces, {}, ["a"]) == frozenset()
    assert ends([1, 2], own_types([4, 12, 8]), pieces, {}, ["a</s>"]) == {1, 2}


def test_the_starter_models_ends(load: Load, starter_gguf: Path) -> None:
    """All three are control tokens there."""
    model = load(starter_gguf)
    assert end_texts(model) == named_texts(model) == {"<|endoftext|>", "<|im_end|>", "<reponame>"}


# --- answers ----------------------------------------------------------------------------------------------------------


def forced(model: Model, name: str) -> SamplingParams:
    """Nothing but this token is said."""
    return SamplingParams(temperature=0.0, logit_bias=((model.pieces.index(name.encode()), 1000.0),))


def test_an_answer_goes_on_behind_struck_out_text(load: Load, tmp_path: Path) -> None:
    model = load(write_chat(tmp_path / "m.gguf", extra={"</s>": USER_DEFINED}, template=CHAT_TEMPLATE))
    engine = Engine(model)
    assert engine.answer("a", 3, forced(model, "</s>")) == ("</s></s></s>", "length")
    assert engine.answer("a", 3, forced(model, "<|im_end|>")) == ("", "stop")


def test_where_ends_are_ignored_text_is_not_banned(load: Load, tmp_path: Path) -> None:
    model = load(write_chat(tmp_path / "m.gguf", extra={"</s>": USER_DEFINED}))
    engine = Engine(model)
    biased = (*forced(model, "</s>").logit_bias, (model.pieces.index(b"<|im_end|>"), 2000.0))
    params = SamplingParams(temperature=0.0, logit_bias=biased, ignore_eos=True)
    assert engine.answer("a", 2, params) == ("</s></s>", "length")


def test_a_control_token_is_text_for_whoever_looks_for_it(load: Load, tmp_path: Path) -> None:
    model = load(write_chat(tmp_path / "m.gguf"))
    (token,) = model.tokenize("<|im_end|>", add_special=False, parse_special=True)
    for _ in range(2):  # what is remembered of a marker is the same
        assert model.make_text((), ("<|im_end|>",)).push(token) == "<|im_end|>"
        assert model.make_text((), ("</think>",)).push(token) == ""
        assert model.make_text(()).push(token) == ""
