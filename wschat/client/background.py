"""What goes on by itself, while nobody waits for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger(namespace="wschat.client")


def run(work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """Begin some work; its Deferred is for who cancels it.  A fault in it is logged."""
    return Deferred.fromCoroutine(work).addErrback(_log_unless_cancelled)


def _log_unless_cancelled(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("the client has a fault", failure)
