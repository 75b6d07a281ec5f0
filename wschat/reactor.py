"""The reactor of `twistd --reactor=uvloop`: Twisted's asyncio reactor on uvloop's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable
from typing import Any

import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionLost
from twisted.internet.main import installReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger(namespace="wschat.reactor")


class UvloopReactor(AsyncioSelectorReactor):
    """
    The asyncio reactor, told of connections that were reset.

    uvloop stops watching a descriptor that has an error, as a connection can
    have that its peer reset, and tells nobody which it was (its issue 552):
    its owner would wait, and its place be taken, for ever.
    """

    def __init__(self) -> None:
        loop = uvloop.new_event_loop()
        loop.set_exception_handler(self._failed)
        super().__init__(loop)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # aiofastnet gives the class itself of a peer that leaves before it has shaken hands.
        if issubclass(error if isinstance(error, type) else type(error), OSError):
            self.callLater(0, self._drop_reset)
        else:
            loop.default_exception_handler(context)

    def callFromThread(  # type: ignore[override]  # the asyncio reactor names it otherwise
        self, f: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """As Twisted's, but for the detour by a timer: every commit comes back this way."""
        self._asyncioEventloop.call_soon_threadsafe(_call, f, args, kwargs)

    def soon(self, function: Callable[[], None]) -> None:
        """Call something when what is ready now has had its turn: `callLater(0)` at less cost."""
        self._asyncioEventloop.call_soon(_call, function, (), {})

    def addReader(self, reader: Any) -> None:
        """Watch `reader`; one that is watched no more is lost soon."""
        try:
            super().addReader(reader)
        except RuntimeError:  # the loop's own, of a handle that has ended
            self.callLater(0, self._drop, reader)

    def addWriter(self, writer: Any) -> None:
        """Watch `writer`; one that is watched no more is lost soon."""
        try:
            super().addWriter(writer)
        except RuntimeError:
            self.callLater(0, self._drop, writer)

    def _drop_reset(self) -> None:
        """End the connections that have an error: they are watched no more."""
        poll = select.poll()
        watched = {s.fileno(): s for s in (*self.getReaders(), *self.getWriters())}
        for descriptor in watched:
            if descriptor >= 0:
                poll.register(descriptor, 0)
        for descriptor, event in poll.poll(0):
            if event & (select.POLLERR | select.POLLNVAL):
                self._drop(watched[descriptor])

    def _drop(self, selectable: Any) -> None:
        if selectable.fileno() < 0:
            return  # it has been lost meanwhile
        for remove in (self.removeReader, self.removeWriter):
            with contextlib.suppress(RuntimeError):
                remove(selectable)
        # What the loop still has of the descriptor must not meet the next one of that number.
        for forget in (self._asyncioEventloop.remove_reader, self._asyncioEventloop.remove_writer):
            with contextlib.suppress(RuntimeError):
                forget(selectable.fileno())
        selectable.connectionLost(Failure(ConnectionLost()))


def _call(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> None:
    try:
        function(*args, **named)
    except BaseException:  # as Twisted does: nobody's `sys.exit` ends the loop
        log.failure("a call failed")


def install() -> None:
    """Make it the reactor; before anything imports `twisted.internet.reactor`."""
    installReactor(UvloopReactor())
