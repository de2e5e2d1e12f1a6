"""The chat templates of real models, each in a renderer of its own, with what is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from janflask.inference.layout.template_messages import entries
from janflask.inference.layout.template_probe import Forms, probe
from janflask.inference.layout.template_process import TemplateRenderer
from janflask.inference.probing.thoughts import answer_rules
from janflask.inference.requests import ChatMessage
from janflask.parsing.rules import AnswerRules
from tools.llama_templates import ensure

TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
THOUGHT = "The user says: hi.\n\nSo <b>greet</b> [them], 5 < 6."
SAID = "Hello & welcome!\n\n- [a](b) <i>c</i>\n- ä€😀"
ASKED = ChatMessage.of("user", "Hi")
NAMES = sorted(path.stem for path in ensure(os.environ).glob("*.jinja"))


class Layout:
    """One real template, and what is known of it."""

    def __init__(self, source: str) -> None:
        self.renderer = TemplateRenderer(source)
        self.forms: Forms = probe(self.renderer, {**TOKENS, "add_generation_prompt": True})
        self.rules: AnswerRules = answer_rules(self.renderer, TOKENS, self.forms)

    def text(self, *messages: ChatMessage, **variables: Any) -> str:
        context = {**TOKENS, "add_generation_prompt": False, **variables, "messages": entries(messages, self.forms)}
        return self.renderer.render([context])[0].text

    def answers(self) -> Iterator[tuple[str, str]]:
        """Prompts, and the answer with thoughts as the template writes it behind them, up to the last word."""
        answer = ChatMessage.of("assistant", SAID, reasoning=THOUGHT)
        for switch in ({"enable_thinking": True, "thinking": True}, {}):
            text = self.text(ASKED, answer, **switch)
            prompt = self.text(ASKED, add_generation_prompt=True, **switch)
            if THOUGHT in text and SAID in text and text.startswith(prompt):
                yield prompt, text[len(prompt) : text.index(SAID) + len(SAID)]
