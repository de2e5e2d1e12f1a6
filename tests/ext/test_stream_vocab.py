"""The token-to-text stream over the starter model's own vocabulary."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import pytest

from janflask_ext.stream import ATTR_CONTROL, ATTR_UNKNOWN, TextStream, Vocab
from tests.ext.test_stream import whole_characters


@pytest.fixture(scope="module")
def tokens(starter_gguf: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """Each token's bytes and attributes as llama.cpp tells them."""
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(str(starter_gguf).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    buffer = ctypes.create_string_buffer(1024)
    pieces, attrs = [], []
    for token in range(llama_cpp.llama_vocab_n_tokens(vocab)):
        size = llama_cpp.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, True)
        pieces.append(buffer.raw[:size])
        attrs.append(llama_cpp.llama_vocab_get_attr(vocab, token))
    yield pieces, attrs
    llama_cpp.llama_model_free(model)


def test_every_token_pushed_once_gives_the_text_of_all_their_bytes(tokens: tuple[list[bytes], list[int]]) -> None:
    pieces, attrs = tokens
    assert len(pieces) == 49152
    vocab = Vocab(pieces, attrs)
    stream, order = TextStream(vocab), list(range(len(pieces)))
    random.Random(0).shuffle(order)
    text = "".join(stream.push(token) for token in order) + stream.finish()
    shown = [pieces[token] for token in order if not attrs[token] & (ATTR_CONTROL | ATTR_UNKNOWN)]
    assert text == whole_characters(b"".join(shown))
    assert "\ufffd" in text


def test_special_tokens_are_text_only_when_asked_for(tokens: tuple[list[bytes], list[int]]) -> None:
    vocab = Vocab(*tokens)
    end = tokens[0].index(b"<|im_end|>")
    assert TextStream(vocab).push(end) == ""
    assert TextStream(vocab, render_special=True).push(end) == "<|im_end|>"


def test_each_token_by_itself_is_its_text(tokens: tuple[list[bytes], list[int]]) -> None:
    vocab = Vocab(*tokens)
    for token, piece in enumerate(tokens[0]):
        stream = TextStream(vocab, render_special=True)
        assert stream.push(token) + stream.finish() == whole_characters(piece)
        assert vocab.text(token) == piece.decode("utf-8", "replace")


def test_a_stop_string_in_random_tokens_ends_the_text_before_it(tokens: tuple[list[bytes], list[int]]) -> None:
    vocab, rng = Vocab(*tokens), random.Random(1)
    for _ in range(300):
        sequence = rng.choices(range(len(vocab)), k=40)
        whole = TextStream(vocab)
        text = "".join(whole.push(token) for token in sequence) + whole.finish()
        start = rng.randrange(len(text) - 3)
        stop = text[start : start + rng.randint(1, 12)]
        stream = TextStream(vocab, [stop])
        given = ""
        for token in sequence:
            given += stream.push(token)
            if stream.stopped:
                break
        assert given + stream.finish() == text[: text.index(stop)]
        assert stream.stop == stop
