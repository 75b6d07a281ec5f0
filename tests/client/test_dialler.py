"""Tests of `wschat.client.dialler`: tokens, trust, and why there is no connection."""

from __future__ import annotations

import time
from typing import Any

from tests.client.support import QuickTests, Script
from wschat.client import State
from wschat.client.accounts import ConnectionProblem, RequestRefused


class TrustTests(QuickTests):
    """Who the server is, and who the user."""

    async def test_insecure(self) -> None:
        """A client that checks nothing connects where nobody vouches for the server."""
        self.start()
        self.environ("SSL_CERT_FILE", "/dev/null")
        client, _ = await self.connected(insecure_tls=True)
        self.assertTrue((await client.command("ping")).success)

    async def test_untrusted(self) -> None:
        """Without trust there is no connection, and a line that says what to do."""
        self.start()
        self.environ("SSL_CERT_FILE", "/dev/null")
        _, ear = self.client()
        await ear.becomes(State.DISCONNECTED)
        self.assertIsInstance(ear.changes[-1][1], ConnectionProblem)
        self.assertIn("not trusted", ear.errors[0])
        self.assertIn("SSL_CERT_FILE", ear.errors[0])

    async def test_wrong_key(self) -> None:
        """Another's key does not log in: the listener is told of a refusal, not of a problem."""
        self.start()
        await self.connected("alice")
        _, ear = self.client("alice")
        await ear.becomes(State.DISCONNECTED)
        self.assertIsInstance(ear.changes[-1][1], RequestRefused)


class TokenTests(QuickTests):
    """A login is for a while."""

    async def test_expired(self) -> None:
        """When its token has ended the server closes a connection, and the client logs in again."""
        self.start(token_lifetime="2")
        client, ear = await self.connected()
        first = client._dialler._token
        assert first is not None
        await ear.becomes(State.CONNECTED, 2)
        second = client._dialler._token
        assert second is not None
        self.assertNotEqual(second[0], first[0])
        self.assertIn("the token has ended; log in again (4005)", ear.errors[0])
        self.assertEqual(client.counters.reconnects, 1)

    async def test_kept(self) -> None:
        """A token that is still good is used again: a lost connection is no reason to log in."""
        script = Script(self)
        _, ear = await self.connected(port=script.port)
        self.assertEqual(script.paths().count("/auth/login?verify=true"), 1)
        await script.conversation()
        await script.hang_up()
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(script.paths().count("/auth/login?verify=true"), 1)

    async def test_daily(self) -> None:
        """A token is used for 23 hours at most."""
        script = Script(self)
        now = [time.time()]
        _, ear = await self.connected(port=script.port, wall=lambda: now[0])
        now[0] += 23 * 3600 + 1
        await script.conversation()
        await script.hang_up()
        await ear.becomes(State.CONNECTED, 2)
        self.assertEqual(script.paths().count("/auth/login?verify=true"), 2)


class RefusalTests(QuickTests):
    """What an upgrade is answered, and how a connection ends."""

    async def refused(self, script: Script, status: int) -> Exception | None:
        """What the listener is told when the server answers the upgrade with a status."""
        script.refuse(status)
        client, ear = self.client(port=script.port)
        await ear.becomes(State.DISCONNECTED)
        await client.stop()
        return ear.changes[1][1]

    async def test_statuses(self) -> None:
        """Each status is a line; too many connections are a refusal, the rest may pass."""
        script = Script(self)
        for status, kind, text in (
            (401, ConnectionProblem, "does not take the token"),
            (429, RequestRefused, "Too many connections"),
            (503, ConnectionProblem, "full, or about to end"),
            (418, ConnectionProblem, "it answered 418"),
        ):
            error = await self.refused(script, status)
            self.assertIsInstance(error, kind)
            self.assertIn(text, str(error))

    async def test_closes(self) -> None:
        """A close without a goodbye is a lost connection; one with it shows reason and code."""
        script = Script(self)
        _, ear = await self.connected(port=script.port)
        await script.conversation()
        await script.hang_up()
        end: Any = await script.conversation(2)
        end.sendClose(4001, "going down")
        end = await script.conversation(3)
        end.sendClose(4002)
        await ear.becomes(State.DISCONNECTED, 3)
        self.assertEqual(
            ear.errors,
            [
                "The connection was lost.",
                "The server closed the connection: going down (4001).",
                "The server closed the connection: for no reason (4002).",
            ],
        )
