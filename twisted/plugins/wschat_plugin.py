"""What Twisted finds of wschat: the `wschat` service, and the `uvloop` reactor."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

server = ServiceMaker(
    "wschat",
    "wschat.tap",
    "A messaging server: durable, signed, over WebSocket.",
    "wschat",
)

uvloop = Reactor("uvloop", "wschat.reactor", "asyncio's reactor on the event loop of uvloop.")
