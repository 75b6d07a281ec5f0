"""What a client tells a program that gave it functions to call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat.client.listener import Heard, Listener, State
from wschat.client.receipts import Receipts

Result = TypeVar("Result")

log = Logger(namespace="wschat.client")


class Events(Listener):
    """
    Passes on what happens: to receipts, to functions, and to another listener.

    What those raise is logged and counted in `failures`.
    """

    def __init__(
        self,
        receipts: Receipts,
        listener: Listener | None,
        heard: Callable[[Heard], Deferred[None] | None],
        changed: Callable[[State, Exception | None], None],
    ) -> None:
        """`heard` and `changed` are told last."""
        self._receipts = receipts
        self._listener = listener or Listener()
        self._heard = heard
        self._changed = changed
        self.state_callbacks: list[Callable[..., object]] = []
        self.presence_callbacks: list[Callable[..., object]] = []
        self.failures = 0
        #: What the client is doing about its connection.
        self.state = State.DISCONNECTED

    def call(self, function: Callable[..., Result], *args: Any) -> Result | None:
        """Call what the program gave us; its faults are its own."""
        try:
            return function(*args)
        except Exception:
            self.failures += 1
            log.failure("a callback failed")
            return None

    def _call_back(self, function: Callable[..., object], *args: Any) -> None:
        result = self.call(function, *args)
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.failures += 1
        log.failure("a callback failed", failure)

    def heard(self, heard: Heard) -> Deferred[None] | None:
        return self._heard(heard)

    def awaits(self) -> bool:
        return self._receipts.awaited or bool(self.call(self._listener.awaits))

    def changed(self, state: State, error: Exception | None) -> None:
        self.state = state
        self.call(self._listener.changed, state, error)
        for callback in list(self.state_callbacks):
            if self.state is state:  # else somebody has closed the chat, and all were told so
                self._call_back(callback, state, error)
        self._changed(state, error)

    def stored(self, client_id: str, message_id: int) -> None:
        self._receipts.stored(client_id, message_id)
        self.call(self._listener.stored, client_id, message_id)

    def delivered(self, client_id: str, message_id: int) -> None:
        self._receipts.delivered(client_id)
        self.call(self._listener.delivered, client_id, message_id)

    def refused(self, text: str, client_id: str | None) -> None:
        if client_id is not None:
            self._receipts.refused(client_id, text)
        self.call(self._listener.refused, text, client_id)

    def delayed(self, text: str, client_id: str) -> None:
        self.call(self._listener.delayed, text, client_id)

    def incomplete(self) -> None:
        self.call(self._listener.incomplete)

    def presence_changed(self, joined: list[str], left: dict[str, str]) -> None:
        self.call(self._listener.presence_changed, joined, left)
        for callback in list(self.presence_callbacks):
            self._call_back(callback, joined, left)

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        self.call(self._listener.key_changed, user_id, old, new)

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        self.call(self._listener.key_rotated, user_id, old, new)
