"""simple-client, message-bot and `twistd wschat` as people and operators run them."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
import stat

from scripts.processes import Process, Server
from tests.endtoend import WORD, EndToEnd, run, together
from wschat.config import SETTINGS
from wschat.datadir import make_certificate


class ConversationTests(EndToEnd):
    """People at terminals and in pipes."""

    async def test_conversation(self) -> None:
        """Direct both ways, broadcasts, who is there; all of it verified, nothing comes back."""
        server = await self.serve()
        alice, bob = await self.connected(server, "alice", "bob")
        alice.says(f"@bob {WORD}: how are you?")
        await self.sees(bob, f"alice -> bob [VERIFIED] [ENCRYPTED]: {WORD}: how are you?")
        for mark in ("✓", "✓✓"):
            await self.sees(alice, f"{mark} @bob {WORD}: how are you?")
        text = f'{WORD} <b>&"é"</b> \N{WAVING HAND SIGN}'
        bob.says(f"@alice {text}")
        line = await self.sees(alice, "bob -> alice")
        shown = re.escape(f"bob -> alice [VERIFIED] [ENCRYPTED]: {text}")
        self.assertRegex(line, rf"^\[\d\d:\d\d:\d\d\] {shown}$")
        alice.says(f"!{WORD} for all")
        await self.sees(bob, f"alice -> broadcast [VERIFIED]: {WORD} for all")
        alice.says("/history bob 5")
        await self.sees(alice, f"alice -> bob [VERIFIED] [ENCRYPTED]: {WORD}: how are you?")
        await self.sees(alice, "* 2 messages.")
        alice.says("/users")
        await self.sees(alice, "Online: alice, bob")
        await self.sees(alice, "Offline: -")
        bob.says("/quit")
        self.assertEqual(await self.status(bob), 0)
        alice.says("/users")
        await self.sees(alice, "Offline: bob")
        alice.says("/quit")
        self.assertEqual(await self.status(alice), 0)
        own = [line for line in alice.lines if "alice ->" in line]
        self.assertEqual(len(own), 1)  # what /history showed

    async def test_bot(self) -> None:
        """message-bot announces itself, and says its text again and again."""
        server = await self.serve()
        [alice] = await self.connected(server, "alice")
        text = f"{WORD} check"
        self.chat(server, "bot", program="message-bot", BOT_INTERVAL="0.2", BOT_MESSAGE=text)
        await self.sees(alice, "bot -> broadcast [VERIFIED]: Bot is now online")
        await self.sees(alice, f"bot -> broadcast [VERIFIED]: {text}")
        for _ in range(2):
            await self.will_see(alice, f"bot -> broadcast [VERIFIED]: {text}")

    async def test_pipe(self) -> None:
        """
        At the end of its input a client sends what is left, and ends with 0.

        Who was away has it all when they come, in order, and once.
        """
        server = await self.serve()
        homes = {"alice": self.directory(), "bob": self.directory()}
        [bob] = await self.connected(server, "bob", homes=homes)
        bob.end_of_input()
        self.assertEqual(await self.status(bob), 0)
        alice = self.chat(server, "alice", homes["alice"])
        for number in range(20):  # more than the rate limit lets through at once
            alice.says(f"@bob {WORD} {number}.")
        alice.transport.write(f"!{WORD} without a line's end".encode())
        alice.end_of_input()
        self.assertEqual(await self.status(alice), 0)
        texts = [f"{WORD} {number}." for number in range(20)] + [f"{WORD} without a line's end"]
        [bob] = await self.connected(server, "bob", homes=homes)
        await self.sees(bob, texts[-1])
        heard = [line.partition("]: ")[2] for line in bob.lines if WORD in line]
        self.assertEqual(heard, texts)
        bob.says("/quit")
        self.assertEqual(await self.status(bob), 0)
        bob, alice = await self.connected(server, "bob", "alice", homes=homes)
        alice.says(f"@bob {WORD} again")
        await self.sees(bob, f"{WORD} again")
        self.assertEqual(len([line for line in bob.lines if WORD in line]), 1)

    async def test_refused(self) -> None:
        """A refused login and an unknown recipient have a line, and a status, each."""
        server = await self.serve()
        [alice] = await self.connected(server, "alice")
        other, charlie = self.chat(server, "alice"), self.chat(server, "charlie")
        charlie.says(f"@nobody {WORD}")
        charlie.end_of_input()
        self.assertEqual(await self.status(other), 4)
        self.assertEqual(await self.status(charlie), 5)
        self.assertEqual(said(other), ["* The signature does not fit the challenge."])
        self.assertEqual(said(charlie), [f"* @nobody {WORD}: Unknown recipient: nobody."])
        alice.says("/users")  # who is none the worse for it
        await self.sees(alice, "Online: alice")


class ConversationUvloopTests(ConversationTests):
    """… on uvloop."""

    server_reactor = "uvloop"


class UnreachableTests(EndToEnd):
    """What clients end with before a server has said a word; its reactor does not matter."""

    async def test_status(self) -> None:
        """Each way to fail has one line that says it, and a status for scripts."""
        server = await self.serve()
        with socket.socket(socket.AF_INET6) as silent:
            silent.bind(("::1", 0))  # and nobody listens
            away = Server(server.process, server.data_dir, silent.getsockname()[1], 0)
            lost = self.chat(away, "bob")
            misnamed = self.chat(server, "broadcast")
            untrusting = self.chat(server, "dora", SSL_CERT_FILE="/dev/null")
            insecure = self.chat(server, "bot", SSL_CERT_FILE="/dev/null", INSECURE_TLS="true")
            insecure.end_of_input()
            clients = (lost, misnamed, untrusting, insecure)
            statuses = await together(*(self.status(client) for client in clients))
        self.assertEqual(statuses, [3, 2, 3, 0])
        lines = (
            "nobody listens there",
            "WS_USER_ID: 'broadcast'",
            "the certificate is not trusted",
            "* INSECURE_TLS: nobody checks",
        )
        for client, line in zip(clients, lines, strict=True):
            self.assertEqual(len(said(client)), 1, said(client))
            self.assertIn(line, said(client)[0])


def said(client: Process) -> list[str]:
    """What a client printed, but for what all do at first."""
    usual = ("Made a private key", "Connected as")
    return [line for line in client.lines if not any(text in line for text in usual)]


class TwistdTests(EndToEnd):
    """Tests with servers that do not start."""

    async def twistd(self, *options: str, **environ: str) -> tuple[int, str, str]:
        """Run a server that will not start; its status, output and errors."""
        home = self.directory()
        command = ["twistd", "--nodaemon", "--pidfile=", f"--reactor={self.server_reactor}"]
        given = (f"--data-dir={home}", "--listen=:0", "--http=:0", *options)
        done = await self.in_thread(
            run, [*command, "wschat", *given], {"HOME": str(home), **environ}
        )
        return done.returncode, done.stdout, done.stderr


class ArgumentsTests(TwistdTests):
    """What is read before there is a reactor, which so does not matter."""

    async def test_wrong_values(self) -> None:
        """A wrong value is one line that names option, value and what is accepted; status 1."""
        results = await together(
            self.twistd("--message-rate=often"),
            self.twistd("--listen=nonsense"),
            self.twistd(WSCHAT_REGISTRATION="perhaps"),
            self.twistd(MESSAGE_BURST_LIMIT="0"),
            self.twistd("--no-such-option"),
        )
        accepted = ":PORT, HOST:PORT or a Twisted endpoint string"
        lines = [
            "wschat: --message-rate: 'often' is not a number above 0\n",
            f"wschat: --listen: 'nonsense' is not {accepted}\n",
            "wschat: --registration (from WSCHAT_REGISTRATION): 'perhaps' is not open or closed\n",
            "wschat: --message-burst (from MESSAGE_BURST_LIMIT): '0' is not a number from 1\n",
            "wschat: option --no-such-option not recognized\n",
        ]
        self.assertEqual(results, [(1, "", line) for line in lines])

    async def test_help(self) -> None:
        """`--help` lists every option, with its default."""
        status, out, _ = await self.twistd("--help")
        self.assertEqual(status, 0)
        text = " ".join(out.split())
        for setting in SETTINGS:
            self.assertRegex(text, rf"--{setting.name}=")
            self.assertIn(" ".join(setting.help.split()), text)
            described = f"{setting.help} ({setting.accepts})"
            if setting.default:
                described += f" [default: {setting.default}]"
            self.assertIn(f"--{setting.name}= {described}", text)


class FilesAndPortsTests(TwistdTests):
    """What a server makes, shows and takes."""

    async def test_port_in_use(self) -> None:
        """A port that is taken is one line and status 1; the process does end."""
        server = await self.serve()
        taken = f"--listen=:{server.tls_port}"
        plain = f"--http=:{server.http_port}"
        results = await together(self.twistd(taken), self.twistd(plain))
        ports = (server.tls_port, server.http_port)
        for (status, out, err), port in zip(results, ports, strict=True):
            self.assertEqual(status, 1)
            self.assertRegex(err, rf"\Awschat: --(listen|http): .*:{port}\b.*in use\.\n\Z")
            self.assertIn("cannot start: --", out)  # the log has it too

    async def test_in_the_background(self) -> None:
        """Who starts a server that goes to the background, and cannot, hears why all the same."""
        home = self.directory()
        home.mkdir()
        (home / "file").touch()
        files = [f"--pidfile={home / 'pid'}", f"--logfile={home / 'log'}"]
        command = ["twistd", *files, "wschat", f"--data-dir={home / 'file'}"]
        done = await self.in_thread(run, command, {"HOME": str(home)})
        self.assertEqual(done.returncode, 1)
        self.assertIn("--data-dir: ", done.stdout + done.stderr)

    async def test_certificate(self) -> None:
        """The certificate that was given is the one that is served, and none is made."""
        directory = self.directory()
        directory.mkdir()
        make_certificate(directory, datetime.datetime.now(datetime.UTC))
        certificate = directory / "certificate.pem"
        server = await self.serve(
            f"--certificate={certificate}", f"--private-key={directory / 'private-key.pem'}"
        )
        self.assertEqual(await self.served(server), certificate.read_text())
        self.assertFalse(server.certificate.exists())

    async def test_files(self) -> None:
        """The data directory is its owner's (0700), and so is what is secret in it (0600)."""
        data_dir = self.directory()
        server = await self.serve(data_dir=data_dir)
        await self.connected(server, "alice")
        self.assertEqual(await self.served(server), server.certificate.read_text())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
        self.assertEqual(stat.S_IMODE(data_dir.stat().st_mode), 0o700)
        self.assertEqual(modes.pop("certificate.pem"), 0o644)
        self.assertLessEqual({"jwt-secret", "private-key.pem", "wschat.sqlite3"}, modes.keys())
        self.assertEqual(set(modes.values()), {0o600}, modes)

    async def served(self, server: Server) -> str:
        """The certificate that a server shows."""
        return await self.in_thread(ssl.get_server_certificate, ("localhost", server.tls_port))


class FilesAndPortsUvloopTests(FilesAndPortsTests):
    """… on uvloop."""

    server_reactor = "uvloop"
