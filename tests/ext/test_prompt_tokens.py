"""Prompts with words that look like special tokens, cut by llama.cpp's own tokenizers over real vocabularies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from janflask.engine.ends import CONTROL, UNKNOWN
from janflask.engine.library_log import LibraryLog
from janflask.engine.prompts import tokenized
from janflask.inference.layout.templates import ChatTemplates
from janflask.inference.words.special import SpecialWords, special_words
from janflask.ipc.messages.engine import Specials
from tests.models.vocabulary import Vocabulary
from tests.unit.inference.words.test_real_words import HARMLESS, laid_out
from tools.llama_templates import VOCABULARIES

AROUND = [
    ("", ""),
    ("Hello ", " world"),
    ("Hello", "world"),
    ("  ", "  "),
    ("a\n\n", "\n\nb"),
    ("<", ">"),
    ("ü€", "😀"),
]
ORDINARY = ["Hi", " Hi ", "", "a < b", "<b>x</b>\n\n\n  y", "def f(x):\n\treturn [x]", "Grüße, 世界 👩\u200d🚀"]
LOG = LibraryLog()


@pytest.fixture(params=["starter", *VOCABULARIES])
def vocabulary(request: pytest.FixtureRequest, starter_gguf: Path, llama_templates: Path) -> Vocabulary:
    name = request.param
    return loaded(starter_gguf if name == "starter" else llama_templates / f"ggml-vocab-{name}.gguf")


@pytest.fixture(scope="module")
def chats() -> Iterator[ChatTemplates]:
    chats = ChatTemplates()
    yield chats
    chats.close()


@cache
def loaded(path: Path) -> Vocabulary:
    return Vocabulary(path)


def words_of(vocabulary: Vocabulary) -> SpecialWords:
    return special_words(vocabulary.specials, "<|tool_call> <tool_call> <|START_OF_TURN_TOKEN|>", "")


def marked(vocabulary: Vocabulary) -> list[str]:
    """All that is cut, or many of it."""
    words = words_of(vocabulary)
    known = (*vocabulary.specials.control, *vocabulary.specials.user_defined)
    return [text for text in known if words.places(text).inside][:120]


def plain(vocabulary: Vocabulary, text: str, **how: bool) -> list[int]:
    """As the prompt of a layout that has nothing but a client's words."""
    words = words_of(vocabulary)
    how = {"add_special": False, "parse_special": True} | how
    return list(tokenized(vocabulary, text, words.cuts(text, words.places(text).inside), **how))


def text_of(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    return b"".join(map(vocabulary.piece, tokens)).decode()


def special_ids(vocabulary: Vocabulary) -> set[int]:
    control = {token for token, kind in enumerate(vocabulary.types) if kind & (CONTROL | UNKNOWN)}
    return control | {vocabulary.pieces.index(text.encode()) for text in marked(vocabulary)}


@pytest.mark.parametrize(("before", "after"), AROUND)
def test_no_special_token_and_not_a_blank_more(vocabulary: Vocabulary, before: str, after: str) -> None:
    special = special_ids(vocabulary)
    lead = text_of(vocabulary, vocabulary.tokenize("a", add_special=False, parse_special=False)).removesuffix("a")
    for word in marked(vocabulary):
        text = before + word + after
        tokens = plain(vocabulary, text)
        assert not special & set(tokens), text
        assert text_of(vocabulary, tokens) == lead + text
        assert special & set(vocabulary.tokenize(text, add_special=False, parse_special=True)), text


def test_the_layouts_own_markers_stay(vocabulary: Vocabulary) -> None:
    words = words_of(vocabulary)
    marker = next(text for text in vocabulary.specials.control if len(text) > 1)
    token = vocabulary.tokenize(marker, add_special=False, parse_special=True)[0]
    said = f"Hi {marker} there"
    text = f"{marker}{said}{marker}"
    cuts = words.cuts(text, [len(marker) + place for place in words.places(said).inside])
    tokens = tokenized(vocabulary, text, cuts, add_special=False, parse_special=True)
    assert [place for place, found in enumerate(tokens) if found == token] == [0, len(tokens) - 1]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_words_are_cut_as_ever(vocabulary: Vocabulary, text: str) -> None:
    whole = vocabulary.tokenize(text, add_special=True, parse_special=True)
    assert plain(vocabulary, text, add_special=True) == list(whole)


def test_what_the_model_wants_around_a_text_is_there_once(vocabulary: Vocabulary) -> None:
    added = vocabulary.tokenize("Hi", add_special=True, parse_special=True)
    alone = vocabulary.tokenize("Hi", add_special=False, parse_special=True)
    before = len(added) - len(alone)
    word = marked(vocabulary)[0]
    for text in (f"Hi {word}", word, f"{word} Hi"):
        tokens = plain(vocabulary, text, add_special=True)
        assert tokens == [*added[:before], *plain(vocabulary, text)]


def test_without_special_tokens_all_of_it_is_text(vocabulary: Vocabulary) -> None:
    word = marked(vocabulary)[0]
    assert plain(vocabulary, f"{word} a", parse_special=False) == plain(vocabulary, f"{word} a")


REAL = {
    "Qwen-Qwen2.5-7B-Instruct": "qwen2",
    "Qwen-Qwen3-0.6B": "qwen2",
    "meta-llama-Llama-3.1-8B-Instruct": "llama-bpe",
    "meta-llama-Llama-3.2-3B-Instruct": "llama-bpe",
    "microsoft-Phi-3.5-mini-instruct": "phi-3",
    "CohereForAI-c4ai-command-r-plus-tool_use": "command-r",
    "google-gemma-4-31B-it": "gemma-4",
}


@pytest.mark.parametrize("name", REAL)
def test_real_templates_over_their_own_vocabularies(chats: ChatTemplates, llama_templates: Path, name: str) -> None:
    vocabulary = loaded(llama_templates / f"ggml-vocab-{REAL[name]}.gguf")
    source = (llama_templates / f"{name}.jinja").read_text()
    known, special = vocabulary.specials, special_ids(vocabulary)
    words = marked(vocabulary)[:40]

    def ids(said: list[str], known: Specials) -> list[int]:
        prompt = laid_out(chats, source, said, specials=known)
        return list(tokenized(vocabulary, prompt.text, prompt.cuts, add_special=False, parse_special=True))

    found = [token for token in ids(words, known) if token in special]
    harmless = ids([word.translate(HARMLESS) for word in words], known)
    assert found == [token for token in harmless if token in special]
    assert harmless == ids([word.translate(HARMLESS) for word in words], Specials(())), "ordinary ones are unchanged"
    assert len([token for token in ids(words, Specials(())) if token in special]) > len(found)
