"""What goes on by itself, or comes later, while nobody waits for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeGuard

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger(namespace="wschat.client")


def run(work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """Begin some work; its Deferred is for who cancels it.  A fault in it is logged."""
    return Deferred.fromCoroutine(work).addErrback(_log_unless_cancelled)


def _log_unless_cancelled(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("the client has a fault", failure)


def pending(call: IDelayedCall | None) -> TypeGuard[IDelayedCall]:
    """Whether something is yet to be called."""
    return call is not None and bool(call.active())


def cancel(*calls: IDelayedCall | None) -> None:
    """Have nothing of that called, as far as it has not been."""
    for call in calls:
        if pending(call):
            call.cancel()
