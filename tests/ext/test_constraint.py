"""Answers of the starter model under constraints: what they look like, where they end, and what is refused."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import os
import random
import re
import threading
import uuid
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
from gguf import TokenType

from janflask.engine import constraint as under_test
from janflask.engine.constraint import Compiled, Compiler, make_table
from janflask.engine.library_log import LibraryLog
from janflask.engine.model import Model
from janflask.errors import InvalidRequestError, JanflaskError
from janflask.inference.forms.constrained import Constrained, objection, of_any_object, of_choice, of_grammar, of_schema
from janflask.ipc.messages.constraint import Constraint, ConstraintKind
from janflask.ipc.messages.generation import FinishReason
from janflask.models.engine_settings import EngineSettings
from janflask.models.sampling import SamplingParams
from tests.ext.real_loop import Collector, Engine, options
from tests.ext.schemas import HOSTILE, SCHEMAS, Schema
from tests.models.tiny import write_chat

# Answers to each schema beside two; JANFLASK_TEST_ANSWERS=48 makes 2,000 of all.
EXTRA_ANSWERS = int(os.environ.get("JANFLASK_TEST_ANSWERS", "0"))
ANYTHING = Constraint(kind=ConstraintKind.REGEX, text=r"(?s:.*)")
PROMPT = "<|im_start|>user\nTell me about somebody, as JSON.<|im_end|>\n<|im_start|>assistant\n"
_KEPT: list[LibraryLog] = []  # llama.cpp logs to it as long as it lives
LIMIT = 60.0  # seconds that a compilation may take on a slow machine, the table's included


@pytest.fixture(scope="module")
def model(starter_gguf: Path) -> Model:
    _KEPT.append(LibraryLog())
    return Model(starter_gguf, EngineSettings(), _KEPT[0], lambda fraction: None)


@pytest.fixture(scope="module")
def compiler(model: Model) -> Compiler:
    compiler = Compiler(lambda: make_table(model), model.n_vocab)
    compiler.start()
    return compiler


@pytest.fixture(scope="module")
def engine(model: Model) -> Engine:
    return Engine(model, options(n_seq=16, kv_cells=16 * 256, ctx_len=256))


def result_of(compiler: Compiler, constraint: Constraint, owner: str | None = None) -> Compiled | JanflaskError:
    results: list[Compiled | JanflaskError] = []
    came = threading.Event()

    def done(result: Compiled | JanflaskError) -> None:
        results.append(result)
        came.set()

    compiler.compile(constraint, done, owner)
    assert came.wait(LIMIT)
    assert len(results) == 1
    return results[0]


def compiled(compiler: Compiler, constraint: Constraint | Constrained) -> Compiled:
    found = result_of(compiler, constraint.constraint if isinstance(constraint, Constrained) else constraint)
    if isinstance(found, JanflaskError):
        raise found
    return found


def ask(engine: Engine, constraint: Compiled | None, max_tokens: int = 60, prompt: str = PROMPT, **how: Any):
    tokens = engine.model.tokenize(prompt, add_special=True, parse_special=True)
    params = SamplingParams(**{"temperature": 0.0, **how.pop("sampling", {})})
    return engine.ask(tokens, max_tokens, params, constraint=constraint, **how)


def answer(engine: Engine, constraint: Compiled | None, max_tokens: int = 60, **how: Any) -> Collector:
    _, sink = ask(engine, constraint, max_tokens, **how)
    engine.drain()
    assert not sink.errors, sink.errors
    return sink


# --- what comes of it -------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_a_constraint_that_forbids_nothing_changes_no_greedy_answer(engine: Engine, compiler: Compiler) -> None:
    """Not even its end, which is one of several tokens."""
    anything = compiled(compiler, ANYTHING)
    for words in ("What is the capital of France?", "Count to five.", "Say hello in Japanese, with an emoji."):
        prompt = f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
        free, held = (answer(engine, constraint, 50, prompt=prompt) for constraint in (None, anything))
        assert (held.text, held.reason) == (free.text, free.reason)
        assert held.text


@pytest.mark.model
def test_log_probabilities_stay_the_models_own(engine: Engine, compiler: Compiler) -> None:
    """They are those of the whole row, whatever of it a mask leaves."""
    yes = compiled(compiler, of_choice(["yes", "no"], "choice"))
    held = answer(engine, yes, sampling={"top_logprobs": 3})
    free = answer(engine, None, 1, sampling={"top_logprobs": 3})
    first = held.logprobs[0]
    assert [top.id for top in first.top] == [top.id for top in free.logprobs[0].top]
    assert first.top[0].logprob == pytest.approx(free.logprobs[0].top[0].logprob, abs=1e-4)
    assert first.id not in [top.id for top in first.top], "the model wanted to say something else"
    assert first.logprob < first.top[-1].logprob < 0


@pytest.mark.model
def test_every_finished_answer_meets_its_schema(engine: Engine, compiler: Compiler) -> None:
    """By another library's opinion than the server's, and with random numbers of every kind."""
    rng = random.Random(1)
    asked: list[tuple[Schema, Constrained, Collector]] = []
    for schema in SCHEMAS:
        constrained = of_schema(schema, "schema")
        constraint = compiled(compiler, constrained)
        for temperature, top_k in ((0.0, 40), (2.0, 0), *[(rng.uniform(0.5, 2.0), 40)] * EXTRA_ANSWERS):
            how = {"temperature": temperature, "top_k": top_k}
            _, sink = ask(engine, constraint, 60, prompt="JSON:\n", sampling=how, seed=rng.getrandbits(60))
            asked.append((schema, constrained, sink))
    engine.drain()
    finished, wrong = 0, []
    for schema, constrained, sink in asked:
        assert not sink.errors
        if sink.reason is FinishReason.LENGTH:
            continue
        finished += 1
        ours = objection(constrained.schema or "", sink.text)
        theirs = next(_check(schema).iter_errors(json.loads(sink.text)), None)
        # What llguidance can hold the model to it holds it to. The rest (29 February, a leap second) is told.
        is_checked_only = "uniqueItems" in json.dumps(schema) or "date" in schema.get("format", "")
        if (theirs is not None and ours is None) or (ours is not None and not is_checked_only):
            wrong.append((schema, sink.text, ours, theirs))
    assert not wrong
    assert finished > len(asked) / 2


def _check(schema: Schema) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.model
def test_keys_come_in_the_order_of_the_schema_and_without_white_space(engine: Engine, compiler: Compiler) -> None:
    schema = {"type": "object", "properties": {"b": {"const": "x y"}, "a": {"enum": [1]}}, "required": ["a", "b"]}
    assert answer(engine, compiled(compiler, of_schema(schema, "schema"))).text == '{"b":"x y","a":1}'


@pytest.mark.model
def test_forced_text_is_cut_into_tokens_as_the_model_reads_it(engine: Engine, compiler: Compiler) -> None:
    """What is not drawn are the tokens that the tokenizer makes of the same text."""
    keys: dict[str, Any] = {f"measured value {i}": {"const": f"naïve {i}: 数"} for i in range(4)}
    constraint = compiled(compiler, of_schema({"type": "object", "properties": keys, "required": list(keys)}, "schema"))
    sequence, sink = ask(engine, constraint, 200)
    steps = engine.loop.stats().steps
    engine.drain()
    assert sink.reason is FinishReason.STOP
    assert json.loads(sink.text) == {key: value["const"] for key, value in keys.items()}
    tokens = sequence.tokens[sequence.n_prompt :]
    assert tokens == engine.model.tokenize(sink.text, add_special=False, parse_special=False)
    assert engine.loop.stats().steps - steps < len(tokens) / 4


@pytest.mark.model
def test_a_free_object_is_one(engine: Engine, compiler: Compiler) -> None:
    constraint = compiled(compiler, of_any_object("response_format"))
    for seed in range(4):
        sink = answer(engine, constraint, 120, sampling={"temperature": 1.5}, seed=seed)
        assert sink.reason is FinishReason.LENGTH or isinstance(json.loads(sink.text), dict)


@pytest.mark.model
def test_choices_patterns_and_grammars(engine: Engine, compiler: Compiler) -> None:
    choices = ["a b", "c.d", "e\nf|g", "(h)"]
    for seed in range(8):
        sink = answer(engine, compiled(compiler, of_choice(choices, "c")), sampling={"temperature": 2.0}, seed=seed)
        assert sink.text in choices
        assert sink.reason is FinishReason.STOP
    expression = compiled(compiler, of_grammar('root ::= e\ne ::= n ("+" n)*\nn ::= "(" e ")" | [0-9]{1,2}', "grammar"))
    sink = answer(engine, expression, 30, sampling={"temperature": 1.0}, prompt="1+(2+3)+")
    assert set(sink.text) <= set("0123456789+()")
    assert sink.text


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    master: Person | None


class Person(pydantic.BaseModel):
    pets: list[Cat | Dog]


TYPES: list[Any] = [
    *(int, float, str, bool, bytes, None, Any, datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    *(decimal.Decimal, uuid.UUID, pydantic.UUID1, pydantic.UUID4, Path, pydantic.FilePath, pydantic.NewPath),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
    *(ipaddress.IPv4Interface, ipaddress.IPv6Interface, pydantic.IPvAnyAddress, pydantic.IPvAnyNetwork),
    *(pydantic.IPvAnyInterface, pydantic.AnyUrl, pydantic.HttpUrl, pydantic.FileUrl, pydantic.PostgresDsn),
    *(pydantic.SecretStr, pydantic.SecretBytes, pydantic.Json, pydantic.Base64Str, pydantic.Base64UrlStr),
    *(set[int], frozenset[str], tuple[int, str], tuple[int, ...], list[Cat], dict[str, int], dict[int, str]),
    *(dict[Annotated[str, pydantic.StringConstraints(pattern="^a")], int], dict[Literal["a", "b"], int]),
    *(int | None, int | str, Literal["a", 1, None], Person, Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]),
    *(pydantic.PositiveInt, pydantic.AwareDatetime, pydantic.PastDate, pydantic.ByteSize, re.Pattern),
    *(Annotated[int, pydantic.Field(multiple_of=3, gt=2, lt=100)], dict[str, list[dict[str, int | None]]]),
    *(Annotated[str, pydantic.Field(min_length=1, max_length=3)], Annotated[list[int], pydantic.Field(max_length=3)]),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_what_pydantic_writes_can_be_had(compiler: Compiler, kind: Any) -> None:
    schema = pydantic.create_model("Model", value=(kind, ...)).model_json_schema()
    compiled(compiler, of_schema(schema, "schema"))


# --- tokens -----------------------------------------------------------------------------------------------------------


def spelled(model: Model, constraint: Compiled, text: str) -> tuple[bool, bool]:
    """Whether the constraint takes a text as llama.cpp's tokenizer writes it, and may end there."""
    matcher = constraint.matcher()
    for token in model.tokenize(text, add_special=False, parse_special=False):
        matcher.accept(token)
    return matcher.error is None, matcher.error is None and matcher.inner.is_accepting()


@pytest.mark.model
def test_control_tokens_are_no_text(model: Model, compiler: Compiler) -> None:
    constraint = compiled(compiler, of_choice(["<|im_end|>", "x"], "choice"))
    assert spelled(model, constraint, "<|im_end|>") == (True, True)
    matcher = constraint.matcher()
    (end,) = model.tokenize("<|im_end|>", add_special=False, parse_special=True)
    assert not int(matcher.mask[end // 32]) >> end % 32 & 1
    matcher.accept(end)
    assert matcher.error is not None


@pytest.mark.model
def test_a_string_has_no_escape_that_leads_astray(model: Model, compiler: Compiler) -> None:
    """Behind ``\\u00`` there would be control characters alone; where the schema has one, it can be written."""
    text = compiled(compiler, of_schema({"type": "string"}, "json_schema"))
    assert spelled(model, text, '"a\\n\\"é"') == (True, True)
    assert not spelled(model, text, '"caf\\u00')[0]
    control = compiled(compiler, of_schema({"const": "a\x01"}, "json_schema"))
    assert spelled(model, control, '"a\\u0001"') == (True, True)


def test_a_user_defined_token_is_text_as_its_letters_are(load, tmp_path: Path) -> None:
    """``<b>`` is one token to llama.cpp's tokenizer; a grammar that wants these letters takes it, and the letters."""
    model = load(write_chat(tmp_path / "tags.gguf", extra={"<b>": TokenType.USER_DEFINED}))
    compiler = Compiler(lambda: make_table(model), model.n_vocab)
    compiler.start()
    constraint = compiled(compiler, of_schema({"const": "a<b>c"}, "schema"))
    whole = array("i", model.tokenize('"a<b>c"', add_special=False, parse_special=False))
    assert model.pieces.index(b"<b>") in whole
    single = [model.pieces.index(bytes([byte])) for byte in b'"a<b>c"']
    assert constraint.matcher().force(99) == list(whole)
    for tokens in (whole, single):
        matcher = constraint.matcher()
        for token in tokens:
            matcher.accept(token)
        assert (matcher.error, matcher.is_complete) == (None, True)


def test_every_end_of_the_model_may_end_a_constrained_answer(model: Model, compiler: Compiler) -> None:
    matcher = compiled(compiler, ANYTHING).matcher()
    assert len(model.eog) > 1
    assert all(int(matcher.mask[token // 32]) >> token % 32 & 1 for token in model.eog)


def test_a_broken_matcher_says_so_for_good(model: Model, compiler: Compiler) -> None:
    """llguidance's allows the end then, takes it, and looks as if the answer were done."""
    matcher = compiled(compiler, of_choice(["abc"], "choice")).matcher()
    matcher.accept(model.tokenize("x", add_special=False, parse_special=False)[0])
    assert matcher.error
    matcher.accept(min(model.eog))
    assert matcher.error
    assert not matcher.is_complete


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_constraints_are_refused_or_harmless(engine: Engine, compiler: Compiler, name: str) -> None:
    """Within their limits, and by name; those that can be had after all are followed for some tokens."""
    try:
        found = result_of(compiler, HOSTILE[name]().constraint)
    except InvalidRequestError as error:
        found = error
    if isinstance(found, JanflaskError):
        assert (found.status, bool(found.param)) == (400, True)
        assert "<state>" not in found.message
        return
    _, sink = ask(engine, found, 20, sampling={"temperature": 1.0})
    engine.drain()
    assert sink.reason is not None or sink.errors[0].code == "constraint_failed"


def test_what_takes_too_long_is_given_up(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "COMPILE_TIME", 0.05)
    gate = threading.Event()

    class Slow(Compiler):
        def _compile(self, constraint: Constraint) -> Compiled:
            gate.wait(LIMIT)
            return super()._compile(constraint)

    compiler = Slow(lambda: make_table(model), model.n_vocab)
    compiler.start()
    compiler.piece()  # the table is wanted
    assert compiler._ready.wait(LIMIT)
    first = result_of(compiler, of_choice(["a"], "choice").constraint)
    assert isinstance(first, InvalidRequestError)
    assert (first.code, first.param) == ("constraint_too_complex", "choice")
    second = result_of(compiler, of_choice(["b"], "choice").constraint)
    third = result_of(compiler, of_choice(["c"], "choice").constraint)
    assert second.code == "constraint_too_complex"
    assert third.status == 503, "both threads are taken: it was never looked at"
    gate.set()


class Counting(Compiler):
    """Remembers the texts that were not in its cache."""

    def __init__(self, make: Callable[[], Any], n_vocab: int) -> None:
        super().__init__(make, n_vocab)
        self.compiled: list[str] = []

    def _compile(self, constraint: Constraint) -> Compiled:
        self.compiled.append(constraint.text)
        return super()._compile(constraint)


def test_a_constraint_is_compiled_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Counting(lambda: make_table(model), model.n_vocab)
    compiler.start()
    texts = ["a", "b", "c"]
    for text in [*texts, *texts]:
        compiled(compiler, of_choice([text], "choice"))
    assert compiler.compiled == texts
    monkeypatch.setattr(under_test, "CACHE_BYTES", 2)
    compiled(compiler, of_choice(["d"], "choice"))  # drops all but itself and "c"
    for text in ("c", "d", "a"):
        compiled(compiler, of_choice([text], "choice"))
    assert compiler.compiled == ["a", "b", "c", "d", "a"]


def test_a_constraint_is_compiled_for_each_owner(model: Model) -> None:
    compiler = Counting(lambda: make_table(model), model.n_vocab)
    compiler.start()
    constraint = of_choice(["a"], "choice").constraint
    for owner in ("one", "two", None, "two", "one", None):
        assert isinstance(result_of(compiler, constraint, owner), Compiled)
    assert len(compiler.compiled) == 3


def test_without_a_table_constraints_are_refused(model: Model) -> None:
    def fail() -> Any:
        raise ValueError("no")

    compiler = Compiler(fail, model.n_vocab)
    compiler.start()
    assert result_of(compiler, ANYTHING).status == 500
