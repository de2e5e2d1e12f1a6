"""How the conversations of a model are laid out whose file has no chat template: which words it takes, what to say."""

from __future__ import annotations

CHATML = ("<|im_start|>", "<|im_end|>")  # each a token of its own, if a vocabulary was made for ChatML


def layout_name(knows_chatml: bool) -> str:
    """What is used, in a few words."""
    return "ChatML, whose words its vocabulary has" if knows_chatml else "plain text (User: ... Assistant: ...)"


def layout_note(knows_chatml: bool) -> str:
    """What a user should know of it."""
    return (
        f"its file has no chat template: without a settings.prompt_template its chats are laid out as "
        f"{layout_name(knows_chatml)}. It may be a base model, made to go on with a text (/v1/completions) and not to "
        "answer: answers may be poor"
    )
