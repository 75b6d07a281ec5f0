"""What Twisted finds of wschat: the service, the `uvloop` reactor, and the endpoint `fasttls:`."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from wschat.fasttls import FastTLSParser

server = ServiceMaker(
    "wschat",
    "wschat.tap",
    "A messaging server: durable, signed, over WebSocket.",
    "wschat",
)

uvloop = Reactor("uvloop", "wschat.reactor", "asyncio's reactor on the event loop of uvloop.")

fasttls = FastTLSParser()
