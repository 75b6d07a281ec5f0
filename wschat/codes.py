"""
The numbered tables: why a message was refused, and why a WebSocket was closed.

Both are part of the protocol (docs/protocol.md, "Error codes", "Close codes").
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Advice(NamedTuple):
    """
    What a peer is told with a code.

    `reason` is one line.  `again` says whether the same thing may succeed
    later, unchanged; `wait` how long to wait before that, in milliseconds,
    where it is known.
    """

    reason: str
    again: bool
    wait: int | None = None


class ErrorCode(enum.IntEnum):
    """Why the server did not do what a frame asked for."""

    MALFORMED = 100
    NOT_RESUMED = 101
    UNKNOWN_RECIPIENT = 110
    UNKNOWN_CLIENT_ID = 111
    RATE_LIMITED = 120
    BUSY = 121
    RECIPIENT_FULL = 122
    NOT_STORED = 123
    OUT_OF_TURN = 124
    INTERNAL = 130

    @property
    def advice(self) -> Advice:
        return _ERRORS[self]


_ERRORS: Final = {
    ErrorCode.MALFORMED: Advice("The frame is not what the protocol says.", again=False),
    ErrorCode.NOT_RESUMED: Advice("Send a resume frame first, and once.", again=False),
    ErrorCode.UNKNOWN_RECIPIENT: Advice("Unknown recipient.", again=False),
    ErrorCode.UNKNOWN_CLIENT_ID: Advice("No message with this client id is stored.", again=True),
    ErrorCode.RATE_LIMITED: Advice("Rate limit exceeded. Please slow down.", again=True),
    ErrorCode.BUSY: Advice("The server is busy. Please try again.", again=True, wait=1000),
    ErrorCode.RECIPIENT_FULL: Advice(
        "Too many messages wait for this recipient, who is away. Please try again later.",
        again=True,
        wait=60_000,
    ),
    ErrorCode.NOT_STORED: Advice(
        "The message could not be stored. Please try again.", again=True, wait=1000
    ),
    ErrorCode.OUT_OF_TURN: Advice(
        "The message that this one follows was refused: send that again first.", again=True, wait=0
    ),
    ErrorCode.INTERNAL: Advice("The server had a fault. Please try again.", again=True, wait=1000),
}

#: What senders read when the database has no room; `ErrorCode.NOT_STORED`.
DISK_FULL: Final = "The server's disk is full: the message was not stored."


class CloseCode(enum.IntEnum):
    """
    Why the server closed a WebSocket.

    From 4000 to 4499 a client may connect again; from 4500 it should not
    without its user changing something.
    """

    UNSUPPORTED_DATA = 1003
    SHUTDOWN = 4001
    STALE = 4002
    NEW_KEYS = 4003
    INTERNAL = 4004
    SLOW = 4008
    NO_PONG = 4012
    REPLACED = 4500

    @property
    def advice(self) -> Advice:
        return _CLOSES[self]

    @property
    def reason(self) -> str:
        """One line for the peer, short enough for a close frame (RFC 6455 section 5.5)."""
        return _CLOSES[self].reason


_CLOSES: Final = {
    CloseCode.UNSUPPORTED_DATA: Advice("text frames only", again=False),
    CloseCode.SHUTDOWN: Advice("the server is shutting down; connect again", again=True, wait=1000),
    CloseCode.STALE: Advice("no resume frame came in time; connect again", again=True, wait=0),
    CloseCode.NEW_KEYS: Advice("the user has new keys; log in again", again=True, wait=1000),
    CloseCode.INTERNAL: Advice("the server had a fault; connect again", again=True, wait=1000),
    CloseCode.SLOW: Advice("reading too slowly; connect again for the rest", again=True, wait=0),
    CloseCode.NO_PONG: Advice("silent for too long; connect again", again=True, wait=0),
    CloseCode.REPLACED: Advice("another connection took over this session", again=False),
}


class Refused(Exception):
    """Something is not done; the code says why, the text says it to whoever asked."""

    def __init__(self, code: ErrorCode, text: str = "", *, wait: int | None = None) -> None:
        """`text` in place of the code's own, and `wait` in milliseconds in place of its own."""
        self.code = code
        self.text = text or code.advice.reason
        self.wait = code.advice.wait if wait is None else wait
        super().__init__(self.text)
