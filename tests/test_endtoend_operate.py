"""A server that is operated: another certificate under its clients, its end, its users."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import sqlite3
import ssl
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import jwt
from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from scripts.processes import PROGRAMS, Process, Server
from tests.endtoend import PATIENCE, WORD, EndToEnd, Patient, run, together
from wschat.client import Client, Heard, Settings, State
from wschat.client.accounts import Accounts
from wschat.datadir import self_signed
from wschat.identity import PrivateKey

#: Clients whose server gets another certificate, and those who talk while it ends.
CONNECTED = 500
TALKING = 40

#: How often each of them says something, in seconds.
PAUSE = 0.02

#: The limits of a server on which so many talk.
GENEROUS = (
    *("--message-rate=100", "--message-burst=200"),
    *("--login-rate=100000", "--registration-rate=100000"),
)

#: The status of a server that ended in good order: by the signal, once all was done.
ENDED = -signal.SIGTERM


class Fixed:
    """An account whose token is known, so that many clients need no login each."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def login(self) -> str:
        return self._token

    def forget(self, user_id: str | None) -> None:
        """Nothing is remembered."""


class Someone(Patient):
    """Somebody with a client, and what they said and heard."""

    def __init__(
        self,
        server: Server,
        user_id: str,
        home: Path,
        key: PrivateKey,
        *,
        session: str = "",
        accounts: Fixed | None = None,
    ) -> None:
        super().__init__(2 * PATIENCE)
        settings = Settings.from_environ(
            {
                "WS_SERVER_URL": f"https://localhost:{server.tls_port}",
                "WS_USER_ID": user_id,
                "WS_SESSION": session,
                "WS_ENCRYPTION": "disabled",
                "INSECURE_TLS": "true",
                "XDG_CONFIG_HOME": str(home),
            }
        )
        self.name = user_id
        self.client = Client(reactor, settings, key, self, accounts=cast(Accounts, accounts))
        #: Client ids, in order: what was said, what has a receipt, and what came.
        self.said: list[str] = []
        self.receipts: list[str] = []
        self.came: list[str] = []
        self.problems: list[str] = []

    def heard(self, heard: Heard) -> None:
        self.came.append(str(heard.message.client_id))
        self.look()

    def stored(self, client_id: str, message_id: int) -> None:
        self.receipts.append(client_id)
        self.look()

    def changed(self, state: State, error: Exception | None) -> None:
        if error is not None:
            self.problems.append(str(error))
        self.look()

    def say_to(self, other: str) -> None:
        self.said.append(self.client.send(other, f"{WORD} {len(self.said)}"))

    async def answered(self) -> bool:
        """Whether the server answers on the connection that there is."""
        return (await self.client.command("ping")).success


class OperateTests(EndToEnd):
    """What the tests of this module share."""

    timeout = 150

    def someone(self, server: Server, user_id: str, session: str = "", **given: Any) -> Someone:
        """Somebody who connects, and is stopped in the end."""
        key = self.keys.setdefault(user_id, PrivateKey.generate())
        someone = Someone(server, user_id, self.home, key, session=session, **given)
        someone.client.startService()
        self.addCleanup(someone.client.stop)
        return someone

    def setUp(self) -> None:
        self.home = self.directory()
        self.keys: dict[str, PrivateKey] = {}


class CertificateTests(OperateTests):
    """A certificate that is replaced while the server runs."""

    def put(self, directory: Path) -> bytes:
        """A new certificate and its key in a directory; the certificate, DER."""
        chain, key = self_signed(["localhost"], datetime.datetime.now(datetime.UTC))
        for name, pem in (("key.pem", key), ("chain.pem", chain)):  # as certbot does it
            new = directory / f"{name}.new"
            new.write_bytes(pem)
            new.replace(directory / name)
        return ssl.PEM_cert_to_DER_cert(chain.decode())

    def shown(self, server: Server) -> bytes | None:
        """The certificate of a new connection, DER."""
        return _shown("127.0.0.1", server.tls_port)

    async def test_replaced(self) -> None:
        """
        500 clients are connected; the certificate is replaced, and then broken.

        The next handshake sees the new one, and it still does when the files
        are broken, which is one line in the log; nobody loses a connection.
        """
        directory = self.directory()
        directory.mkdir()
        first = self.put(directory)
        server = await self.serve(
            f"--certificate={directory / 'chain.pem'}",
            f"--private-key={directory / 'key.pem'}",
            f"--max-sessions-per-user={CONNECTED + 1}",
            "--message-rate=1000",
            "--message-burst=2000",
        )
        alice = self.someone(server, "alice")
        await alice.until(lambda: alice.client.connected)
        secret = (server.data_dir / "jwt-secret").read_text().strip()
        token = jwt.encode({"user_id": "alice", "exp": time.time() + 3600}, secret, "HS256")
        clients = [
            self.someone(server, "alice", f"s{number}", accounts=Fixed(token))
            for number in range(CONNECTED - 1)
        ]
        clients.append(alice)
        await together(*(c.until(lambda c=c: c.client.connected) for c in clients))  # type: ignore[misc]
        self.assertEqual(await self.in_thread(self.shown, server), first)

        second = self.put(directory)  # … and nobody tells the server
        await self.sees(server.process, "--certificate: read again")
        self.assertEqual(await self.in_thread(self.shown, server), second)

        (directory / "chain.pem").write_text("junk")
        server.process.signal("HUP")
        said = await self.sees(server.process, "--certificate is as it was:")
        self.assertIn("not a PEM certificate and its key", said)
        self.assertEqual(await self.in_thread(self.shown, server), second)

        third = self.put(directory)
        server.process.signal("HUP")
        await self.will_see(server.process, "--certificate: read again")
        self.assertEqual(await self.in_thread(self.shown, server), third)

        self.assertTrue(all(await together(*(client.answered() for client in clients))))
        self.assertEqual(sum(client.client.counters.reconnects for client in clients), 0)
        self.assertEqual([p for client in clients for p in client.problems], [])


class CertificateUvloopTests(CertificateTests):
    """… on uvloop."""

    server_reactor = "uvloop"


class LimitsTests(OperateTests):
    """Limits that are changed while the server runs."""

    async def test_changed(self) -> None:
        """
        A limit in the configuration file holds soon after it is written there.

        A broken file changes nothing, and what takes a restart is said.
        """
        file = self.directory()
        file.write_text("message-rate = 0.1\nmessage-burst = 4\n")
        server = await self.serve(f"--config-file={file}")
        alice, bob = self.someone(server, "alice"), self.someone(server, "bob")
        await together(*(p.until(lambda p=p: p.client.connected) for p in (alice, bob)))  # type: ignore[misc]
        file.write_text("message-rate = [")
        await self.sees(server.process, "--config-file is as it was:")
        file.write_text(
            "message-rate = 1000\nmessage-burst = 2000\n"
            "byte-rate = '9MiB'\nmax-connections-per-host = 9\nretention-days = 9\n"
        )
        server.process.signal("HUP")
        changed = "message-rate, message-burst, byte-rate, max-connections-per-host"
        await self.sees(server.process, f"changed: {changed}")
        await self.sees(server.process, "not before a restart: retention-days")
        # Told on a new connection: now, and not at six messages a minute.
        again = self.someone(server, "alice", "again")
        await again.until(lambda: again.client.connected)
        for _ in range(50):
            again.say_to("bob")
        await bob.until(lambda: len(bob.came) == 50)
        self.assertEqual(bob.came, again.said)


class LimitsUvloopTests(LimitsTests):
    """… on uvloop."""

    server_reactor = "uvloop"


def stored(server: Server) -> list[tuple[str, str]]:
    """Sender and client id of every message in the database, in order."""
    path = server.data_dir / "wschat.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT sender, client_id FROM messages ORDER BY id").fetchall()


class DrainTests(OperateTests):
    """SIGTERM under load."""

    async def test_restarted(self) -> None:
        """
        Everybody talks, the server ends in good order, and is started again.

        All come back by themselves, not all at once; what has a receipt is
        stored, once, and reaches whom it is for, once.
        """
        server = await self.serve(*GENEROUS)
        names = [f"u{number:02}" for number in range(TALKING)]
        people = [self.someone(server, name) for name in names]
        await together(*(p.until(lambda p=p: p.client.connected) for p in people))  # type: ignore[misc]

        def talk() -> None:
            for number, person in enumerate(people):
                if person.client.unsettled < 500:
                    person.say_to(names[(number + 1) % TALKING])

        talking = LoopingCall(talk)
        talking.clock = reactor
        talking.start(PAUSE)

        def quiet() -> None:
            if talking.running:
                talking.stop()

        self.addCleanup(quiet)
        await together(*(p.until(lambda p=p: len(p.receipts) > 10) for p in people))  # type: ignore[misc]

        began = time.monotonic()
        self.assertEqual(await server.process.end("TERM"), ENDED)
        ended = time.monotonic()
        receipts = {client_id for person in people for client_id in person.receipts}
        self.assertLessEqual(receipts, {client_id for _, client_id in stored(server)})
        for person in people:
            (problem,) = person.problems
            self.assertIn("(4001)", problem)
        server = await self.serve(*GENEROUS, data_dir=server.data_dir, tls_port=server.tls_port)
        await together(
            *(p.until(lambda p=p: p.client.counters.reconnects > 0) for p in people)  # type: ignore[misc]
        )
        back = time.monotonic()
        print(f"drained in {ended - began:.2f} s, all {TALKING} back after {back - began:.2f} s")
        talking.stop()
        await together(*(person.client.settled() for person in people))
        rows = stored(server)
        for number, person in enumerate(people):
            mine = [client_id for sender, client_id in rows if sender == person.name]
            self.assertEqual(mine, person.said)
            self.assertEqual(sorted(person.receipts), sorted(person.said))
            listener = people[(number + 1) % TALKING]
            await listener.until(lambda at=listener, m=mine: len(at.came) >= len(m))  # type: ignore[misc]
            self.assertEqual(listener.came, mine)

    async def test_nobody_answers(self) -> None:
        """A client that hears nothing any more holds up the end for a while, and no longer."""
        server = await self.serve("--drain-seconds=2")
        alice = self.chat(server, "alice")
        alice.says(f"@alice {WORD}")
        await self.sees(alice, f"alice -> alice [VERIFIED] [ENCRYPTED]: {WORD}")
        alice.signal("STOP")
        self.addCleanup(alice.signal, "CONT")
        self.assertEqual(await server.process.end("TERM"), ENDED)
        await self.sees(server.process, "some sessions did not answer")

    async def test_database_hangs(self) -> None:
        """A database that somebody else holds does not hold up the end: nothing has a receipt."""
        server = await self.serve("--drain-seconds=2")
        alice = self.someone(server, "alice")
        await alice.until(lambda: alice.client.connected)
        path = server.data_dir / "wschat.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            alice.say_to("alice")
            self.assertEqual(await server.process.end("TERM"), 1)
            self.assertIn("cut off", server.process.lines[-1])
            holder.execute("ROLLBACK")
        self.assertEqual(alice.receipts, [])
        server = await self.serve(data_dir=server.data_dir, tls_port=server.tls_port)
        await alice.client.settled()
        self.assertEqual([client_id for _, client_id in stored(server)], alice.said)


class DrainUvloopTests(DrainTests):
    """… on uvloop."""

    server_reactor = "uvloop"


class UserTests(OperateTests):
    """The command `wschat`, beside a server that runs."""

    async def wschat(self, server: Server, *arguments: str) -> list[str]:
        """Run the command; what it prints."""
        environ = {"HOME": str(self.home), "WSCHAT_DATA_DIR": str(server.data_dir)}
        ended = await self.in_thread(run, ["wschat", *arguments], environ)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return ended.stdout.splitlines()

    async def test_users(self) -> None:
        """
        What an operator does to users, a server that runs does to their connections.

        Who is kicked logs in again; who is disabled is told, and comes back
        when they may; who is added is there; who is forgotten is gone.
        """
        server = await self.serve()
        alice, bob = self.someone(server, "alice"), self.someone(server, "bob")
        await together(*(p.until(lambda p=p: p.client.connected) for p in (alice, bob)))  # type: ignore[misc]

        await self.wschat(server, "user", "kick", "alice")
        await alice.until(lambda: alice.client.counters.reconnects == 1)
        self.assertIn("(4006)", alice.problems[0])

        await self.wschat(server, "user", "disable", "alice")
        await alice.until(lambda: any("(4501)" in problem for problem in alice.problems))
        await self.wschat(server, "user", "enable", "alice")
        again = self.someone(server, "alice", "again")
        await again.until(lambda: again.client.connected)

        (line,) = await self.wschat(server, "user", "add", "charlie", "--make-key")
        self.keys["charlie"] = PrivateKey.from_text(line.partition("=")[2])
        charlie = self.someone(server, "charlie")
        await charlie.until(lambda: charlie.client.connected)
        charlie.say_to("bob")
        await bob.until(lambda: bob.came == charlie.said)

        await self.wschat(server, "forget", "charlie", "--yes")
        await charlie.until(lambda: any("(4501)" in problem for problem in charlie.problems))
        self.assertEqual(stored(server), [])
        self.assertEqual(bob.problems, [])
        self.assertTrue(await bob.answered())

    async def test_backup_under_load(self) -> None:
        """
        A backup while everybody talks is a server like the first, and nobody notices.

        It has every message that had a receipt when it was begun.
        """
        server = await self.serve("--message-rate=1000", "--message-burst=2000")
        alice, bob = self.someone(server, "alice"), self.someone(server, "bob")
        await together(*(p.until(lambda p=p: p.client.connected) for p in (alice, bob)))  # type: ignore[misc]
        talking = LoopingCall(lambda: alice.say_to("bob"))
        talking.clock = reactor
        running = talking.start(0.005)
        await alice.until(lambda: len(alice.receipts) > 100)
        before = set(alice.receipts)
        backup = self.directory()
        await self.wschat(server, "backup", str(backup))
        talking.stop()
        await running
        await alice.client.settled()
        self.assertEqual((alice.problems, bob.problems), ([], []))
        copy = await self.serve(data_dir=backup)
        kept = [client_id for _, client_id in stored(copy)]
        self.assertLessEqual(before, set(kept))
        self.assertEqual(kept, alice.said[: len(kept)])
        here = self.someone(copy, "bob", "new")
        await here.until(lambda: here.client.connected)
        self.assertTrue(await here.answered())


#: Starts `twistd` with a listening socket, 3, as systemd does it.
ACTIVATE = """
import os, sys
os.dup2(int(os.environ.pop("LISTENER")), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="wschat.socket")
os.execv(sys.argv[1], sys.argv[1:])
"""


class SocketTests(OperateTests):
    """A socket that systemd holds."""

    async def test_held(self) -> None:
        """
        The server speaks TLS on a socket that it was given.

        Who connects while it restarts waits for the next one, and is not refused.
        """
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
            listener.listen(100)
            port = listener.getsockname()[1]
            data_dir = self.directory()
            first = await self.activated(listener, data_dir)
            certificate = (data_dir / "certificate.pem").read_text()
            shown = await self.in_thread(_shown, "::1", port)
            self.assertEqual(shown, ssl.PEM_cert_to_DER_cert(certificate))
            self.assertEqual(await first.end(), ENDED)
            waiting = self.in_thread(_shown, "::1", port)
            await self.activated(listener, data_dir)
            self.assertEqual(await waiting, shown)

    async def activated(self, listener: socket.socket, data_dir: Path) -> Process:
        """Start a server on a socket, and wait until it listens."""
        process = Process("server")
        program = str(PROGRAMS / "twistd")
        options = ["--nodaemon", "--pidfile=", f"--reactor={self.server_reactor}", "wschat"]
        options += [f"--data-dir={data_dir}", "--http=none"]
        options += ["--listen=systemd:domain=INET6:index=0"]
        reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-c", ACTIVATE, program, *options],
            env={"PATH": os.environ["PATH"], "HOME": str(data_dir), "LISTENER": "9"},
            childFDs={0: "w", 1: "r", 2: "r", 9: listener.fileno()},
        )
        self.addCleanup(process.end)
        await self.sees(process, "listening on https://")
        return process


class SocketUvloopTests(SocketTests):
    """… on uvloop."""

    server_reactor = "uvloop"


def _shown(host: str, port: int) -> bytes | None:
    """The certificate that whoever listens there shows, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), PATIENCE) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.getpeercert(binary_form=True)


class ManagerTests(OperateTests):
    """A service manager."""

    async def test_told(self) -> None:
        """It is told when the server is ready, that it is alive, and when it is about to end."""
        with (
            tempfile.TemporaryDirectory() as directory,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ):
            path = f"{directory}/notify"
            manager.bind(path)
            manager.settimeout(PATIENCE)
            environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"}
            server = await Server.start(reactor, self.directory(), environ=environ)
            self.addCleanup(self._stop, server)
            told = [(await self.in_thread(manager.recv, 100)).decode() for _ in range(2)]
            self.assertEqual(told, ["READY=1", "WATCHDOG=1"])
            self.assertEqual(await server.process.end("TERM"), ENDED)
            rest = [(await self.in_thread(manager.recv, 100)).decode()]
            while rest[-1] == "WATCHDOG=1":
                rest.append((await self.in_thread(manager.recv, 100)).decode())
            self.assertEqual(rest[-1], "STOPPING=1")
