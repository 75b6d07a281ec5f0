"""Another token before one ends, so that a client stays connected."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from wschat.client import background
from wschat.client.accounts import ConnectionProblem, RequestRefused

#: How soon another token is asked for, and asked for again, in seconds, when one ends.
_WITHIN: Final = 60.0

log = Logger(namespace="wschat.client")


class Renewal:
    """Asks for another token until there is one, or none is wanted any more."""

    def __init__(
        self, reactor: Any, ask: Callable[[], Awaitable[str]], renewed: Callable[[str], None]
    ) -> None:
        """`ask` is a dialler's; `renewed` is told of the token."""
        self._reactor = reactor
        self._ask = ask
        self._renewed = renewed
        self._asking: Deferred[None] = succeed(None)

    def begin(self) -> None:
        """The token that there is ends soon."""
        self.cancel()
        self._asking = background.run(self._renew())

    def cancel(self) -> None:
        """The connection ends: no other token is wanted."""
        self._asking.cancel()

    async def _renew(self) -> None:
        token = None
        while token is None:
            # All of it is chance, as those who came together are all told together.
            wait = random.uniform(0, _WITHIN)  # noqa: S311  # no secret
            await deferLater(self._reactor, wait)
            try:
                token = await self._ask()
            except (ConnectionProblem, RequestRefused) as error:
                log.info("no other token: {error}", error=error)
        self._renewed(token)
