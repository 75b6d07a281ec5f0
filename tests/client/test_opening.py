"""Tests of `wschat.client.opening`: how a chat begins, or does not."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.client.test_chat import ChatTests
from wschat.client import ChatClosed, ConnectionProblem, RequestRefused, State, connect
from wschat.client.settings import SettingsError
from wschat.identity import BadKey, PrivateKey


class _Events:
    """The reactor, but for its end."""

    def __init__(self) -> None:
        self.triggers: list[Any] = []
        self.removed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> Any:
        assert (phase, event) == ("before", "shutdown")
        self.triggers.append(function)
        return function

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers.remove(trigger)
        self.removed += 1


class ConnectTests(ChatTests):
    """`connect`, and what it is given."""

    async def test_unreachable(self) -> None:
        """Without a server `connect` fails, and nothing goes on."""
        connecting = connect("alice", "localhost:1", **self.own)
        await self.assertFailure(connecting, ConnectionProblem)

    async def test_wrong(self) -> None:
        """What is given wrong fails before anything is done."""
        wrong: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
            (SettingsError, {"user_id": "no body"}),
            (SettingsError, {"server": "http://x"}),
            (SettingsError, {"encryption": "perhaps"}),
            (BadKey, {"key": "abc"}),
        )
        for error, given in wrong:
            await self.assertFailure(connect(**{"user_id": "alice", **given, **self.own}), error)

    async def test_cancelled(self) -> None:
        """Nothing goes on for who does not wait any longer."""
        came: Deferred[Any] = Deferred()
        went: Deferred[Any] = Deferred()

        class Silent(Protocol):
            def connectionMade(self) -> None:
                came.callback(None)

            def connectionLost(self, reason: Failure | None = None) -> None:
                went.callback(None)

        factory = Factory.forProtocol(Silent)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        connecting = connect("alice", f"127.0.0.1:{port.getHost().port}", **self.own)
        await came
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await went

    async def test_shutdown(self) -> None:
        """The end of the reactor says goodbye, once."""
        self.start()
        events = _Events()
        closed, alice = [await self.chat(name, reactor=events) for name in ("bob", "alice")]
        await closed.close()
        (at_shutdown,) = events.triggers
        await at_shutdown()
        self.assertIsNone(await alice.ended())
        self.assertEqual(events.removed, 1)

    async def test_key(self) -> None:
        """A key that is given is the user's; it is who they are."""
        self.start()
        key = PrivateKey.generate()
        alice = await self.chat("alice", key=key)
        await alice.close()
        await self.chat("alice", key=key.to_text())
        other = Deferred.fromCoroutine(self.chat("alice", key=PrivateKey.generate()))
        await self.assertFailure(other, RequestRefused)

    async def test_without_waiting(self) -> None:
        """Without waiting a chat goes on trying, and is closed all the same."""
        alice = await self.chat("alice", port=1, wait=False)
        said = alice.broadcast("early")
        await alice.close()
        await self.assertFailure(said, ChatClosed)
        self.assertIs(alice.state, State.DISCONNECTED)
