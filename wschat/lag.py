"""How late the reactor is: how long whatever wants its turn has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How often it is measured, in seconds.
INTERVAL: Final = 0.25


class Lag:
    """Asks for a turn again and again, and measures how late that comes."""

    def __init__(self, clock: IReactorTime, observe: Callable[[float], None]) -> None:
        """`observe` is told, in seconds."""
        self._clock = clock
        self._observe = observe
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._turn)

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _turn(self) -> None:
        self._observe(max(0.0, self._clock.seconds() - self._due))
        self.start()
