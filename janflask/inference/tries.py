"""How often one request is tried: the one policy."""

from __future__ import annotations

from janflask.errors import JanflaskError
from janflask.inference.waiting import Waiter

ATTEMPTS = 5  # to have a request answered while an engine that has just died is being started again
FIRST_PAUSE = 0.1  # seconds, as long as the supervisor may take to notice; doubled after each further failure


class Tries:
    """How often what is done for one request may fail before the request does.

    One is shared by all steps of a request, so that what one step used up the next one does not have: tries in a loop
    of tries add up, they do not multiply.
    """

    def __init__(self, most: int = ATTEMPTS) -> None:
        self._left = most

    def again(self, error: JanflaskError, waiter: Waiter) -> None:
        """Returns after a pause when one more try is due; raises ``error`` when it was the last one."""
        self._left -= 1
        if self._left <= 0:
            raise error
        waiter.wait(FIRST_PAUSE * 2 ** (ATTEMPTS - 1 - self._left))
