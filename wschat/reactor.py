"""The reactor of `twistd --reactor=uvloop`: Twisted's asyncio reactor on uvloop's event loop."""

from __future__ import annotations

import uvloop
from twisted.internet import asyncioreactor


def install() -> None:
    """Make it the reactor; before anything imports `twisted.internet.reactor`."""
    asyncioreactor.install(uvloop.new_event_loop())
