"""One of those who use the server: does one thing after another, by chance but always the same for the same seed."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import openai

from benchmarks.soak.raw import TIMEOUT, Raw
from benchmarks.soak.tally import Tally

# fmt: off
WORDS = (
    "sea", "stone", "lamp", "river", "bread", "winter", "road", "music", "paper", "garden", "window", "light",
    "bird", "table", "letter", "mountain", "door", "glass", "morning", "city", "salt", "engine", "summer",
    "forest", "island", "shadow", "market", "silver", "bridge", "corner", "story", "field", "wheel", "harbour",
)
# fmt: on


@dataclass
class Visitor:
    """What an activity works with."""

    rng: random.Random
    sdk: openai.OpenAI
    raw: Raw
    foreign: Raw  # the same server with somebody else's key
    models: Sequence[str]  # the first one always runs; of the others only one at a time

    @property
    def model(self) -> str:
        """The one that always runs."""
        return self.models[0]

    def words(self, least: int, most: int) -> str:
        """Some that nobody has sent before."""
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(least, most)))

    def tokens(self) -> int:
        """How long an answer may be."""
        return self.rng.choice((1, 4, 8, 16, 32))


Activity = Callable[[Visitor], None]


def visitor(seed: str, port: int, keys: tuple[str, str], models: Sequence[str], tally: Tally) -> Visitor:
    """One with a key of its own and one of somebody else's; its SDK retries nothing, and its answers are counted."""
    client = openai.DefaultHttpxClient(
        event_hooks={"response": [lambda answer: tally.status(answer.status_code)]}, timeout=TIMEOUT
    )
    sdk = openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=keys[0], max_retries=0, timeout=TIMEOUT, http_client=client
    )
    return Visitor(random.Random(seed), sdk, Raw(port, keys[0], tally), Raw(port, keys[1], tally), models)


class Client(threading.Thread):
    """Does activities until told to stop; the one under way ends by itself."""

    def __init__(self, name: str, visitor: Visitor, activities: dict[Activity, int], tally: Tally) -> None:
        super().__init__(name=name, daemon=True)
        self._visitor = visitor
        self._activities = activities
        self._tally = tally
        self._ended = threading.Event()

    def run(self) -> None:
        """The thread's."""
        names, weights = list(self._activities), list(self._activities.values())
        while not self._ended.is_set():
            (activity,) = self._visitor.rng.choices(names, weights)
            self._do(activity)
        self._visitor.sdk.close()
        self._visitor.raw.close()
        self._visitor.foreign.close()

    def stop(self) -> None:
        """Begins no further activity."""
        self._ended.set()

    def _do(self, activity: Activity) -> None:
        began = time.monotonic()
        try:
            activity(self._visitor)
        except Exception as error:  # each is a finding, whatever it is
            frame = traceback.extract_tb(error.__traceback__)
            places = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frame) if "soak" in each.filename)
            self._tally.fail(activity.__name__, f"{type(error).__name__}: {error} ({places})")
        else:
            self._tally.finish(activity.__name__, time.monotonic() - began)
