"""What is left of a conversation when the server is killed, and when it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from websockets.exceptions import ConnectionClosed

from scripts.processes import Process, Server
from tests.endtoend import WORD, Classic, EndToEnd, Patient, Socket, together
from wschat.client import Client, Heard, Listener, Settings, State
from wschat.client.accounts import ConnectionProblem
from wschat.identity import PrivateKey

PEOPLE = [f"u{number:02}" for number in range(20)]


def stored(server: Server) -> list[tuple[str, str, str]]:
    """Sender, recipient and client id of every message in the database, in order."""
    path = server.data_dir / "wschat.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(
            "SELECT sender, topic, client_id FROM messages ORDER BY id"
        ).fetchall()


class Person(Patient):
    """Somebody with a `wschat.client.Client`, who talks until told to stop."""

    def __init__(self, server: Server, number: int, home: Path) -> None:
        super().__init__()
        self.name = PEOPLE[number]
        self._others = [PEOPLE[(number + step) % len(PEOPLE)] for step in (1, 7)]
        if number % 10 == 0:
            self._others.append("broadcast")
        url = f"https://localhost:{server.tls_port}"
        environ = {"WS_SERVER_URL": url, "WS_USER_ID": self.name, "XDG_CONFIG_HOME": str(home)}
        settings = Settings.from_environ(environ)
        self.client = Client(reactor, settings, PrivateKey.generate(), self)
        #: Client ids: of what was said, of what came, of what of that was not as its sender wrote
        #: it, of what the server is known to have dealt with, and of receipts; and refusals.
        self.said: list[str] = []
        self.texts: dict[str, str] = {}  # … and what it was
        self.came: list[str] = []
        self.unverified: list[str] = []
        self.accepted: list[str] = []
        self.receipts: list[str] = []
        self.refusals: list[str] = []
        self.talking = True

    def heard(self, heard: Heard) -> None:
        self.came.append(str(heard.message.client_id))
        if not heard.verified or heard.text is None:
            self.unverified.append(self.came[-1])
        self.look()

    def refused(self, text: str, client_id: str | None) -> None:
        self.refusals.append(text)

    def stored(self, client_id: str, message_id: int) -> None:
        self.receipts.append(client_id)

    def changed(self, state: State, error: Exception | None) -> None:
        self.look()

    def is_back(self) -> bool:
        """Whether the connection was lost, and is there again."""
        return self.client.connected and self.client.counters.reconnects > 0

    async def has_accepted(self, count: int) -> None:
        """Wait until so many of the person's messages are known to be accepted."""
        await self.until(lambda: len(self.accepted) >= count)

    async def talk(self) -> None:
        """Say things, and have them accepted, whatever happens to the connection."""
        number = 0
        while self.talking:
            await self.until(lambda: self.client.connected)
            connection = self.client.counters.reconnects
            said = []
            for other in self._others:
                number += 1
                text = f"{WORD} {self.name} {number}"
                said.append(self.client.send(other, text))
                self.texts[said[-1]] = text
            self.said += said
            try:
                answer = await self.client.command("ping")
            except ConnectionProblem:
                continue
            # An answer on another connection says nothing of what was sent on the first.
            if answer.success and connection == self.client.counters.reconnects:
                self.accepted += said
                self.look()


class CrashTests(EndToEnd):
    """Kill -9."""

    async def test_kill(self) -> None:
        """
        20 clients and two processes talk, the server is killed, and started again.

        All come back by themselves.  All that was said is in the database,
        once and in its order, and what is in the database is delivered, once.
        """
        server = await self.serve()
        self.patch_trust(server)
        alice, bob = await self.connected(server, "alice", "bob")
        home = self.directory()
        people = [Person(server, number, home) for number in range(len(PEOPLE))]
        for person in people:
            person.client.startService()
            self.addCleanup(person.client.stop)
        talking = [Deferred.fromCoroutine(person.talk()) for person in people]
        self._say(alice, bob, 10)
        await together(*(person.has_accepted(6) for person in people))
        await self.sees(bob, f"{WORD} from alice 9")
        self._say(alice, bob, 5)

        self.assertEqual(await server.process.end("KILL"), -9)
        before = {client_id for _, _, client_id in stored(server)}
        self.assertGreater(len(before), 2 * len(people))
        server = await self.serve(data_dir=server.data_dir, tls_port=server.tls_port)

        await together(
            *(person.until(person.is_back) for person in people),
            self.sees(alice, "Back as alice"),
            self.sees(bob, "Back as bob"),
        )
        accepted = [len(person.accepted) for person in people]
        await together(
            *(p.has_accepted(count + 4) for p, count in zip(people, accepted, strict=True))
        )
        alice.says(f"@bob {WORD} after all")
        await self.sees(bob, f"{WORD} after all")
        for person in people:
            person.talking = False
        await together(*talking)
        await together(*(person.client.settled() for person in people))

        rows = stored(server)
        await together(*(person.until(self._has_all(person, rows)) for person in people))
        in_store = {client_id for _, _, client_id in rows}
        for person in people:
            self.assertLessEqual(set(person.came), in_store)
            self.assertLessEqual(set(person.accepted), in_store)
            twice = [text for text, times in Counter(person.came).items() if times > 1]
            self.assertEqual(twice, [])
            # While the server is away, so is the key of a sender whom nobody has asked about yet.
            self.assertLessEqual(set(person.unverified), before)
            self.assertEqual(person.refusals, [])
            # Nothing that was said is lost, though nobody but the client said it again.
            in_order = [client_id for sender, _, client_id in rows if sender == person.name]
            self.assertEqual(in_order, person.said)
            self.assertEqual(len(set(person.receipts)), len(person.said))
            self.assertEqual(len(person.receipts), len(person.said))
        broadcast = {client_id for _, topic, client_id in rows if topic == "broadcast"}
        public = {p.texts[client_id] for p in people for client_id in broadcast & {*p.texts}}
        for process in (alice, bob):
            lines = [line for line in process.lines if " -> broadcast " in line]
            printed = {line.partition("]: ")[2] for line in lines}
            self.assertLessEqual(printed, public)
        await together(*(person.client.stop() for person in people))

    def _say(self, alice: Process, bob: Process, count: int) -> None:
        for number in range(count):
            alice.says(f"@bob {WORD} from alice {number}")
            bob.says(f"@alice {WORD} from bob {number}")

    @staticmethod
    def _has_all(person: Person, rows: list[tuple[str, str, str]]) -> Callable[[], bool]:
        """Whether somebody has heard all that was meant for them."""
        meant = {
            client_id
            for sender, topic, client_id in rows
            if topic == person.name or (topic == "broadcast" and sender != person.name)
        }
        return lambda: meant <= set(person.came)

    def patch_trust(self, server: Server) -> None:
        """Have the clients in this process trust a server."""
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(server.certificate)

        def restore() -> None:
            del os.environ["SSL_CERT_FILE"]
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before

        self.addCleanup(restore)


class CrashUvloopTests(CrashTests):
    """… on uvloop."""

    server_reactor = "uvloop"


class ClientTests(EndToEnd):
    """A client that gives up."""

    async def test_stop_on_the_way(self) -> None:
        """A client that is stopped while it connects does not try again."""
        with socket.socket() as silent:  # accepts, and never says a word
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            environ = {"WS_SERVER_URL": url, "WS_USER_ID": "u00", "INSECURE_TLS": "true"}
            settings, key = Settings.from_environ(environ), PrivateKey.generate()
            client = Client(reactor, settings, key, Listener())
            client.startService()
            accepted, _ = await self.in_thread(silent.accept)
            with accepted:
                await client.stop()
        self.assertFalse(client.connected)  # … nor does it mean to: trial looks for timers


class StopTests(EndToEnd):
    """SIGTERM."""

    async def test_stop(self) -> None:
        """
        A server that is told to stop says goodbye with 4001.

        The next one has the same certificate, accounts and tokens, and nobody
        hears twice what they heard before.
        """
        server = await self.serve()
        ann, ben, cat = await together(
            *(self.in_thread(Classic.entered, server, name) for name in ("ann", "ben", "cat"))
        )
        tokens = await together(*(self.in_thread(user.login) for user in (ann, ben)))
        sockets = await together(
            *(self.in_thread(u.open, t) for u, t in zip((ann, ben), tokens, strict=True))
        )
        try:
            await self.in_thread(self._talk, *sockets)
            server.process.signal("TERM")
            codes = await together(*(self.in_thread(self._closed, socket) for socket in sockets))
        finally:
            await together(*(self.in_thread(socket.close) for socket in sockets))
        self.assertEqual(codes, [4001, 4001])
        await self.status(server.process)
        files = [server.data_dir / name for name in ("certificate.pem", "jwt-secret")]
        before = [file.read_bytes() for file in files]

        server = await self.serve(data_dir=server.data_dir, tls_port=server.tls_port)
        self.assertEqual([file.read_bytes() for file in files], before)
        await self.in_thread(self._talk_again, ann, ben, cat, tokens)

    async def test_status(self) -> None:
        """Who was told to stop ends by that signal, as twistd does, and says nothing of faults."""
        server = await self.serve()
        server.process.signal("TERM")
        self.assertEqual(await self.status(server.process), -signal.SIGTERM)

    @staticmethod
    def _closed(socket: Socket) -> int | None:
        """Read to the end; the code of the close."""
        try:
            while True:
                socket.hear()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code

    def _talk(self, ann: Socket, ben: Socket) -> None:
        for number in range(5):
            ann.say("ben", f"{WORD} {number}")
            self.assertEqual(ben.hear_content(), f"{WORD} {number}")
        ann.say("broadcast", f"{WORD} to all")
        self.assertEqual(ben.hear_content(), f"{WORD} to all")
        ann.say("cat", f"{WORD} for later")
        # Stored, and on their way when the server ends: heard before its close.
        for number in range(5):
            ann.say("ben", f"{WORD} late {number}")
        ann.ping()

    def _talk_again(self, ann: Classic, ben: Classic, cat: Classic, tokens: list[str]) -> None:
        self.assertEqual(ann.register().status, 409)
        with ann.open(tokens[0]) as speaker, ben.open(tokens[1]) as listener, cat.open() as late:
            speaker.say("ben", f"{WORD} again")
            self.assertEqual(listener.hear_content(), f"{WORD} again")
            self.assertEqual(late.hear_content(), f"{WORD} to all")
            self.assertEqual(late.hear_content(), f"{WORD} for later")
            for socket in (speaker, listener, late):
                self.assertEqual(socket.ping(), [])


class StopUvloopTests(StopTests):
    """… on uvloop."""

    server_reactor = "uvloop"
