"""What a client tells its program, and the program's side of it."""

from __future__ import annotations

import enum

import msgspec
from twisted.internet.defer import Deferred

from wschat import wire
from wschat.client.accounts import RequestRefused
from wschat.envelope import Authenticity


class State(enum.StrEnum):
    """What a client is doing about its connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"


class Heard(msgspec.Struct, frozen=True):
    """
    A message for the user.

    `text` is what the sender wrote, or None when it is sealed and cannot be
    opened.  `authenticity` says what its signatures are worth.
    """

    message: wire.Message
    text: str | None
    authenticity: Authenticity

    @property
    def verified(self) -> bool:
        """Whether the sender's key signed it, and nothing speaks against it."""
        return self.authenticity in (Authenticity.ENVELOPE, Authenticity.CONTENT)


class Listener:
    """
    Told what happens, in the order in which it happens; to be subclassed.

    `changed` to disconnected comes with the reason: a `ConnectionProblem` or
    a `RequestRefused`; with a `SessionOver` the client does not come back.
    """

    def heard(self, heard: Heard) -> Deferred[None] | None:
        """
        A message came; when this returns, it counts as handled.

        When a Deferred is returned, that is so once it has fired.  Others are
        heard meanwhile; when many are not handled yet, no more is read of the
        connection.  With a `CancelledError` the message is given up: it and
        all that comes behind it comes again next time.
        """

    def awaits(self) -> bool:
        """
        Whether the program waits for what only the server can tell it, such as a delivery.

        As long as that is so, the connection is read, however many messages
        are not handled yet; those that there is no room for come again.
        """
        return False

    def refused(self, text: str, client_id: str | None) -> None:
        """The server did not take something; `client_id` says which message, if it is known."""

    def changed(self, state: State, error: Exception | None) -> None:
        """The connection's state is another."""

    def stored(self, client_id: str, message_id: int) -> None:
        """What was sent is on the server's disk."""

    def delivered(self, client_id: str, message_id: int) -> None:
        """What was sent to a user has been acknowledged by their client."""

    def delayed(self, text: str, client_id: str) -> None:
        """The server could not store something now, and says why; it is sent again by itself."""

    def incomplete(self) -> None:
        """Some of what came while the client was away is not kept any more."""

    def presence_changed(self, joined: list[str], left: dict[str, str]) -> None:
        """Users came, or went, with the time when they were last there (RFC 3339)."""

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        """
        The server has other keys for a user than those that are pinned.

        With both fingerprints (wschat.client.trust).  What the new key signs
        is invalid, and nothing is sealed for it, until `Client.trust`.
        """

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        """A user has new keys, which their old one vouches for; with both fingerprints."""


class SessionOver(RequestRefused):
    """The server ended the session for good; connecting again would not help."""


class History(msgspec.Struct, frozen=True):
    """Part of a conversation, in order; when there may be `more`, it goes on from `next`."""

    messages: list[Heard]
    more: bool
    next: int


class Counters(msgspec.Struct):
    """What a client has done so far."""

    sent: int
    received: int
    refused: int
    reconnects: int
    #: On the WebSocket, under TLS.
    bytes_sent: int = 0
    bytes_received: int = 0
    #: Of the last ping that was answered, in seconds.
    round_trip: float | None = None
    #: Messages that were sealed and could not be opened.
    unopened: int = 0
