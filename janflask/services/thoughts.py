"""Thoughts that leave the server and come back with the conversation: shown as ours again, or refused."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.errors import InvalidRequestError
from janflask.inference.blocks import Thought
from janflask.services.seals import Seals

_KIND = "thinking"


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What stands in the signature of a thought, both ways."""

    seals: Seals

    def seal(self, text: str, *, shown: bool) -> str:
        """A signature where the words are shown beside it; else the words themselves, sealed."""
        return self.seals.signature(_KIND, text) if shown else self.seals.sealed(_KIND, text)

    def opened(self, thought: Thought) -> str:
        """The words. Raises InvalidRequestError for those that this server did not think, naming the place."""
        if not thought.text:
            return self.seals.opened(_KIND, thought.seal, param=thought.place)
        if not self.seals.is_signed(_KIND, thought.text, thought.seal):
            raise InvalidRequestError(
                f"{thought.place}: Invalid `signature` in `thinking` block: it is not this server's for these words; "
                "send thoughts back as they came, or leave the block out",
                param=thought.place,
                code="invalid_signature",
            )
        return thought.text
