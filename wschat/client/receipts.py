"""What becomes of the messages that a program sends, for it to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wschat.client.accounts import RequestRefused

Result = TypeVar("Result")

#: Deliveries that are waited for; past that the oldest are waited for no more.
UNDELIVERED: Final = 500


class MessageRefused(RequestRefused):
    """A message was not taken, by the server or before it was sent; the text says why."""


class ChatClosed(Exception):
    """The chat was closed before that was known, or could be done."""


class DeliveryUnknown(Exception):
    """It will not be known whether that arrived: too much else was sent since."""


class Once(Generic[Result]):
    """Something that happens once, for any number of people who wait for it."""

    def __init__(self) -> None:
        self._results: list[Result | Failure] = []
        self._waiting: list[Deferred[Result]] = []

    def wait(self) -> Deferred[Result]:
        """Fires when it happens, or at once when it has."""
        waiting: Deferred[Result] = Deferred()
        if self._results:
            waiting.callback(self._results[0])
        else:
            self._waiting.append(waiting)
        return waiting

    @property
    def happened(self) -> bool:
        return bool(self._results)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits."""
        return any(not waiting.called for waiting in self._waiting)

    def happen(self, result: Result) -> None:
        """It happened; only the first time counts."""
        self._tell(result)

    def fail(self, error: Exception) -> None:
        """It will not happen."""
        self._tell(Failure(error))

    def _tell(self, result: Result | Failure) -> None:
        if self._results:
            return
        self._results.append(result)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(result)


class Receipt:
    """A message that is on the server's disk; a classic server does not tell the `id`: 0."""

    def __init__(self, client_id: str, message_id: int) -> None:
        self.client_id = client_id
        self.id = message_id


class Sent(Receipt):
    """The same of a message to one user."""

    def __init__(
        self, client_id: str, message_id: int, delivered: Callable[[], Deferred[None]]
    ) -> None:
        super().__init__(client_id, message_id)
        self._delivered = delivered

    @property
    def delivered(self) -> Deferred[None]:
        """
        Fires when their client has handled it, which may be in a week.

        Fails with `DeliveryUnknown` or `ChatClosed`.
        """
        return self._delivered()


class Receipts:
    """What was sent, and what is not known of it yet."""

    def __init__(self) -> None:
        self._stored: dict[str, Once[int]] = {}
        self._delivered: dict[str, Once[None]] = {}

    def __len__(self) -> int:
        """How many messages are not known to be stored."""
        return len(self._stored)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a delivery."""
        return any(once.awaited for once in self._delivered.values())

    def expects(self, client_id: str) -> bool:
        """Whether something of that name is about to be stored."""
        return client_id in self._stored

    def expect(self, client_id: str) -> Once[int]:
        """Something is about to be sent."""
        return self._stored.setdefault(client_id, Once())

    def forget(self, client_id: str) -> None:
        """It was not sent."""
        self._stored.pop(client_id, None)

    def delivery(self, client_id: str) -> Once[None]:
        """What fires when a message is delivered that has just been stored."""
        delivered = self._delivered.setdefault(client_id, Once())
        if len(self._delivered) > UNDELIVERED:
            oldest = next(iter(self._delivered))
            self._delivered.pop(oldest).fail(DeliveryUnknown("Too much else was sent since."))
        return delivered

    def stored(self, client_id: str, message_id: int) -> None:
        once = self._stored.pop(client_id, None)
        if once is not None:
            once.happen(message_id)

    def delivered(self, client_id: str) -> None:
        once = self._delivered.pop(client_id, None)
        if once is not None:
            once.happen(None)

    def refused(self, client_id: str, text: str) -> None:
        once = self._stored.pop(client_id, None)
        if once is not None:
            once.fail(MessageRefused(text))

    def settled(self) -> None:
        """A classic server has dealt with all that was sent so far, and says no more."""
        stored, self._stored = self._stored, {}
        for once in stored.values():
            once.happen(0)

    def close(self, error: Exception) -> None:
        """Nothing more will be known."""
        stored, self._stored = self._stored, {}
        delivered, self._delivered = self._delivered, {}
        for once in stored.values():
            once.fail(error)
        for waited in delivered.values():
            waited.fail(error)
