"""
Autobahn's protocol, without what a connection of ours has no use for.

There are thousands of them, most of them quiet: what each has for itself is
what a server's memory goes to.
"""

from __future__ import annotations

import types
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.utf8validator import Utf8Validator

#: Nobody looks at what Autobahn knows of a transport.
_NO_DETAILS: Final = TransportDetails()

#: What is known of an opening handshake, and is of no use after it.
_HANDSHAKE: Final = (
    "_wskey",
    *(f"http_{part}" for part in ("headers", "request_data", "request_host", "request_params")),
    *(f"http_{part}" for part in ("request_path", "request_uri", "response_data", "status_line")),
    *(f"websocket_{part}" for part in ("extensions", "origin", "protocols")),
    "websocket_extensions_in_use",
)


class _Silence:
    """Autobahn logs requests, tokens included; nothing of that is for anybody."""

    def debug(self, *args: object, **named: object) -> None: ...

    info = warn = error = critical = failure = trace = debug


SILENCE: Final = _Silence()


class LeanProtocol(WebSocketServerProtocol):
    """One whose factory has what all begin with in their class: see `initial_state`."""

    log = SILENCE
    _utf8validator: Any = None

    def connectionMade(self) -> None:
        """Autobahn's own asks for details that only one of our transports has, and nobody needs."""
        self._connectionMade()

    def _connectionMade(self) -> None:
        """The state that Autobahn begins with is in the class: see `initial_state`."""
        self._transport_details = _NO_DETAILS
        self.factory.countConnections += 1

    @property
    def utf8validator(self) -> Any:  # type: ignore[override]
        """Made for the first text that needs one: most connections never have any."""
        if self._utf8validator is None:
            self._utf8validator = Utf8Validator()
        return self._utf8validator

    def _onOpen(self) -> None:
        """Autobahn's own asks for more of those details."""
        for name in _HANDSHAKE:
            self.__dict__.pop(name, None)
        self.onOpen()


def initial_state(factory: WebSocketServerFactory) -> dict[str, Any]:
    """
    What Autobahn's own protocol has in each connection before the handshake, and after it.

    All of it is the same for all, and is replaced, not changed, when a
    connection differs; its counters are nobody's, and its queue, for writes
    that are chopped, is one that nothing can be put into.
    """
    protocol = WebSocketServerProtocol()
    protocol.log, protocol.factory, protocol.peer = SILENCE, factory, ""
    before = set(vars(protocol)) - {"peer"}
    protocol._connectionMade()
    factory.countConnections -= 1
    state = {name: value for name, value in vars(protocol).items() if name not in before}
    del state["utf8validator"]
    for name, value in state.items():
        if isinstance(value, types.FunctionType):
            state[name] = staticmethod(value)
    opened = {"websocket_version": 13, "inside_message": False, "current_frame": None}
    return state | opened | {"send_queue": ()}
