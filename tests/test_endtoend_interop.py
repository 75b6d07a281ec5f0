"""The contract of WIRE.md, held against clients that the project did not write."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import jwt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.public import Box, PublicKey
from nacl.public import PrivateKey as X25519Key
from twisted.trial.unittest import SkipTest
from websockets.exceptions import InvalidStatus

from scripts.processes import Process, Server
from tests.endtoend import (
    PATIENCE,
    WORD,
    Answer,
    Classic,
    EndToEnd,
    b64,
    request,
    signed_by,
)

#: For tests that are not about the rate.
GENEROUS = ("--message-rate=10000", "--message-burst=10000")


class HTTPTests(EndToEnd):
    """HTTP, as http.client speaks it."""

    async def test_rows(self) -> None:
        """Every row of the table, on both ports, and what each answers to what is wrong."""
        server = await self.serve()
        for scenario in (self._accounts, self._logins, self._refusals, self._plain):
            await self.in_thread(scenario, server)

    def _says(self, answer: Answer, status: int) -> None:
        """A refusal's body is one readable line."""
        self.assertEqual(answer.status, status, answer)
        self.assertRegex(answer.text, r"\A[A-Za-z_][^\n{]+\n?\Z")

    def _accounts(self, server: Server) -> None:
        ann = Classic(server, "ann")
        health = ann.request("GET", "/health")
        self.assertEqual(health.status, 200)
        self.assertEqual(health.json["status"], "healthy")
        self.assertTrue(health.json["service"])
        exists = ann.request("GET", "/auth/check-userid/ann")
        self.assertEqual((exists.status, exists.json), (200, {"exists": False}))
        self._says(ann.request("GET", "/auth/users/ann"), 404)
        self._says(ann.register(), 201)
        self._says(ann.register(), 409)
        exists = ann.request("GET", "/auth/check-userid/ann")
        self.assertEqual((exists.status, exists.json), (200, {"exists": True}))
        user = ann.request("GET", "/auth/users/ann")
        self.assertEqual(user.status, 200)
        created = datetime.fromisoformat(user.json.pop("created_at"))
        self.assertLess(abs(created.timestamp() - time.time()), 60)
        self.assertEqual(user.json | ann.registration(), user.json)
        active = ann.request("GET", "/active-users")
        self.assertEqual((active.status, active.json), (200, {"online": [], "offline": ["ann"]}))
        with ann.open():
            active = ann.request("GET", "/active-users")
            self.assertEqual(active.json, {"online": ["ann"], "offline": []})

    def _logins(self, server: Server) -> None:
        ben, other = Classic.entered(server, "ben"), Classic(server, "ben")
        ben.request("POST", "/auth/register", {**ben.registration(), "user_id": "x"})
        self._says(ben.verify(b"\0" * 32), 400)  # nothing was asked
        challenge = ben.challenge()
        self.assertEqual(len(challenge), 32)
        self._says(other.verify(challenge), 401)  # another key
        answer = ben.verify(challenge)
        self.assertEqual(answer.status, 200)
        claims = jwt.decode(answer.json["token"], options={"verify_signature": False})
        self.assertEqual(jwt.get_unverified_header(answer.json["token"])["alg"], "HS256")
        self.assertEqual(claims["user_id"], "ben")
        self.assertLess(abs(claims["exp"] - time.time() - 86400), 60)
        expires = datetime.fromisoformat(answer.json["expires_at"])
        self.assertEqual(expires.timestamp(), claims["exp"])
        self._says(ben.verify(challenge), 400)  # used
        self.assertNotEqual(ben.challenge(), challenge)
        nobody = Classic(server, "nobody")
        self._says(nobody.request("POST", "/auth/login", {"user_id": "nobody"}), 401)
        self._says(nobody.verify(challenge), 401)

    def _refusals(self, server: Server) -> None:
        charlie = Classic(server, "charlie")
        good = charlie.registration()
        self._says(charlie.request("POST", "/health"), 405)
        for path in ("/auth/register", "/auth/login", "/auth/login?verify=true"):
            self._says(charlie.request("GET", path), 405)
            for body in (b"", b"{", b"\xff\xfe", b"[" * 5000, b"null", b'{"user_id": 1}'):
                self._says(charlie.request("POST", path, body), 400)
        wrong: list[dict[str, Any]] = [
            {"public_key": "key"},
            {"public_key": b64(bytes(31))},
            {"public_key": b64(bytes(32))},
            {"x25519_public_key": b64(bytes(3))},
            {"user_id": "server"},
            {"user_id": "a b"},
            {"user_id": "e" * 65},
        ]
        for change in wrong:
            self._says(charlie.request("POST", "/auth/register", good | change), 400)
        self.assertEqual(
            charlie.request("GET", "/auth/check-userid/charlie").json, {"exists": False}
        )

    def _plain(self, server: Server) -> None:
        def get(path: str, method: str = "GET") -> Answer:
            plain = http.client.HTTPConnection("localhost", server.http_port, timeout=PATIENCE)
            return request(plain, method, path)

        self.assertEqual(get("/health").json["status"], "healthy")
        self.assertEqual(set(get("/active-users").json), {"online", "offline"})
        for path in ("/", "/auth/users/ann?x=1", "/ws?token=x"):
            answer = get(path, "POST")
            self.assertEqual(answer.status, 308)
            location = {k.lower(): v for k, v in answer.headers.items()}["location"]
            self.assertEqual(location, f"https://localhost:{server.tls_port}{path}")


class HTTPUvloopTests(HTTPTests):
    """… on uvloop."""

    server_reactor = "uvloop"


class WebSocketTests(EndToEnd):
    """The WebSocket, as Python's `websockets` speaks it."""

    async def test_messages(self) -> None:
        """Who may come in, what goes to whom, what waits, and the commands."""
        server = await self.serve(*GENEROUS)
        scenarios = (self._admission, self._routing, self._offline, self._commands, self._noise)
        for scenario in scenarios:
            await self.in_thread(scenario, server)

    def _admission(self, server: Server) -> None:
        """401 before the upgrade, unless the token is a registered user's, and alive."""
        ada = Classic.entered(server, "ada")
        secret = (server.data_dir / "jwt-secret").read_text().strip()
        token, now = ada.login(), int(time.time())
        body = token.split(".")[1]

        def made(user_id: str, expires: int, key: str = secret, algorithm: str = "HS256") -> str:
            return jwt.encode({"user_id": user_id, "exp": expires}, key, algorithm)

        wrong = [
            "",
            "nonsense",
            token[:-4] + "AAAA",
            made("ada", now - 1),
            made("ada", now + 60, "another secret of thirty-two bytes"),
            made("nobody", now + 60),
            made("ada", now + 60, "", "none"),
            f"{b64(b'{}')}.{body}.",
        ]
        for text in wrong:
            with self.assertRaises(InvalidStatus, msg=text) as refused:
                ada.open(text)
            self.assertEqual(refused.exception.response.status_code, 401, text)
        self.assertEqual(ada.request("GET", "/ws").status, 401)
        for socket in (ada.open(made("ada", now + 60)), ada.open(Authorization=f"Bearer {token}")):
            with socket:
                self.assertEqual(socket.ping(), [])

    def _routing(self, server: Server) -> None:
        bea, cid = Classic.entered(server, "bea"), Classic.entered(server, "cid")
        with bea.open() as at_home, bea.open() as at_work, cid.open() as other:
            other.say("bea", f"{WORD} <direct> & \N{SNOWMAN} \"'\\\n\x01")
            for socket in (at_home, at_work):
                message = socket.hear()
                self.assertTrue(signed_by(message, cid.public_key))
                self.assertEqual(
                    message["body"]["content"], f"{WORD} <direct> & \N{SNOWMAN} \"'\\\n\x01"
                )
                self.assertGreater(message.pop("id"), 0)
                header = message["header"]
                self.assertTrue(header.pop("signature"))
                expected = {
                    "from": "cid",
                    "to": "bea",
                    "message_type": "direct",
                    "timestamp": "2026-11-22T10:00:00.123456789+02:00",
                }
                self.assertEqual(header, expected)
                self.assertEqual(message["status"], "delivered")
            # From is who was authenticated, whoever the frame says; nor do its id and status count.
            frame = {
                "header": {"from": "ada", "to": "cid", "message_type": "direct"},
                "body": {"content": f"{WORD} forged"},
            }
            at_home.send({"id": 4711, "status": "verified", **frame})
            message = other.hear()
            self.assertEqual(message["header"]["from"], "bea")
            self.assertNotEqual(message["id"], 4711)
            self.assertEqual(message["status"], "delivered")
            # Three ways to say "to all", and one that has them all.
            spellings: list[dict[str, Any]] = [
                {},
                {"message_type": "broadcast"},
                {"is_broadcast": True},
                {"to": "", "message_type": "broadcast", "is_broadcast": True},
            ]
            for header in spellings:
                at_work.say("broadcast", f"{WORD} to all", **header)
                message = other.hear()
                self.assertEqual(message["header"]["from"], "bea")
                self.assertEqual(message["header"]["to"], "broadcast")
                self.assertEqual(message["header"]["message_type"], "broadcast")
                self.assertIs(message["header"]["is_broadcast"], True)
            at_home.say("cid", f"{WORD} last")
            self.assertEqual(other.hear_content(), f"{WORD} last")
            for socket in (at_home, at_work, other):  # and nobody heard themselves
                self.assertEqual(socket.ping(), [])
            at_work.say("bea", f"{WORD} to myself")
            self.assertEqual(at_home.hear_content(), f"{WORD} to myself")

    def _offline(self, server: Server) -> None:
        dan, eli = Classic.entered(server, "dan"), Classic.entered(server, "eli")
        texts = [f"{WORD} {number}" for number in range(250)]
        sealed = {"encrypted_key": b64(b"k" * 104), "encryption_nonce": b64(b"n" * 12)}
        with dan.open() as speaker:
            for number, text in enumerate(texts):
                speaker.say("broadcast" if number % 10 == 3 else "eli", text)
            speaker.say("eli", f"{WORD} sealed", **sealed)
            speaker.ping()
            late = Classic.entered(server, "late")  # and so not meant by what was broadcast
            with eli.open() as listener:
                messages = [listener.hear() for _ in range(251)]
                self.assertEqual([m["body"]["content"] for m in messages[:-1]], texts)
                ids = [message["id"] for message in messages]
                self.assertEqual(ids, sorted(set(ids)))
                header = messages[-1]["header"]
                self.assertEqual({**header, **sealed}, header)
                self.assertEqual(listener.ping(), [])
                with eli.open() as second:  # for whom nothing is left
                    self.assertEqual(second.ping(), [])
            with late.open() as listener, eli.open() as again:
                speaker.say("broadcast", f"{WORD} news")
                self.assertEqual(listener.hear_content(), f"{WORD} news")
                self.assertEqual(again.hear_content(), f"{WORD} news")

    def _commands(self, server: Server) -> None:
        fay, gus = Classic.entered(server, "fay"), Classic.entered(server, "gus")
        with fay.open() as socket, gus.open():
            ask: Callable[[str], Any] = socket.ask
            pong = ask('{"command": "ping", "request_id": "r-1"}')
            self.assertLess(abs(pong["result"].pop("timestamp") - time.time()), 60)
            result = {"message": "pong"}
            self.assertEqual(pong, {"success": True, "request_id": "r-1", "result": result})
            params = {"a": [1, 2.5, None, WORD], "\N{SNOWMAN}": {}}
            echo = ask(json.dumps({"command": "echo", "params": params}, ensure_ascii=False))
            result = {"echo": params, "sender": "fay"}  # type: ignore[dict-item]  # JSON of any shape
            self.assertEqual(echo, {"success": True, "result": result})
            info = ask('{"command": "server_info"}')["result"]
            self.assertEqual(info.keys(), {"version", "connected_users", "timestamp"})
            self.assertEqual(info["connected_users"], 2)
            count = ask('{"command": "user_count"}')["result"]
            self.assertEqual((count.keys(), count["count"]), ({"count", "timestamp"}, 2))
            commands = ask('{"command": "list_commands"}')["result"]
            known = {"ping", "echo", "server_info", "user_count", "list_commands"}
            self.assertLessEqual(known, set(commands["commands"]))
            self.assertEqual(commands["count"], len(commands["commands"]))
            for answer in (
                socket.ask('{"command": "ping"}', signer=gus),
                ask('{"command": "no-such"}'),
                ask("no JSON"),
            ):
                self.assertIs(answer["success"], False)
                self.assertTrue(answer["error"])
            socket.send({"header": {"to": "server"}, "body": {"content": '{"command": "ping"}'}})
            unsigned = socket.hear()
            self.assertEqual((unsigned["header"]["from"], unsigned["status"]), ("server", "error"))

    def _noise(self, server: Server) -> None:
        """Whatever comes, there is a clear answer, and the connection lives."""
        hal = Classic.entered(server, "hal")
        with hal.open() as socket:
            for frame in ("", "{", "[]", "null", "[" * 9000, '{"header":{},"body":{}}', '"\x00"'):
                socket.send_text(frame)
                message = socket.hear()
                self.assertEqual(message["header"]["from"], "system", frame[:20])
                self.assertEqual(message["status"], "error")
            socket.say("nobody", f"{WORD} who?")
            self.assertEqual(socket.hear_content(), "Unknown recipient: nobody.")
            self.assertEqual(socket.ping(), [])

    async def test_rate(self) -> None:
        """Past 20 at once, and 10 a second, the sender reads so; nothing of it is routed."""
        server = await self.serve()
        await self.in_thread(self._rate, server)

    def _rate(self, server: Server) -> None:
        ida, jan = Classic.entered(server, "ida"), Classic.entered(server, "jan")
        with ida.open() as speaker, jan.open() as listener:
            began = time.monotonic()
            for number in range(60):
                speaker.say("jan", f"{WORD} {number}")
            speaker.say("jan", f"{WORD} last")
            refused: list[Any] = []
            while not refused or len(refused) < 61 - 20 - 10 * (time.monotonic() - began):
                refused.append(speaker.hear())
            for message in refused:
                content = "Rate limit exceeded. Please slow down."
                self.assertEqual(message["header"]["from"], "system")
                self.assertEqual(message["status"], "error")
                self.assertEqual(message["body"]["content"], content)
            listener.say("ida", f"{WORD} hello")  # the other is not limited
            while speaker.hear()["header"]["from"] != "jan":
                pass
            heard = listener.ping()
            self.assertEqual(heard[:20], [f"{WORD} {number}" for number in range(20)])
            self.assertLessEqual(len(heard), 20 + 10 * (time.monotonic() - began))

    async def test_with_own_client(self) -> None:
        """simple-client reads what another client signed and sealed, and the other way round."""
        server = await self.serve()
        homes = {"kim": self.directory()}
        [kim] = await self.connected(server, "kim", homes=homes)
        lea = await self.in_thread(Classic.entered, server, "lea")
        socket = await self.in_thread(lea.open)
        try:
            kim.says(f'@lea {WORD} <&> "\N{SNOWMAN}"')
            message = await self.in_thread(socket.hear)
            key = (await self.in_thread(lea.request, "GET", "/auth/users/kim")).json
            self.assertTrue(signed_by(message, key["public_key"]))
            kim.says("/quit")
            self.assertEqual(await self.status(kim), 0)
            content, header = sealed(f"{WORD} secret", key["x25519_public_key"])
            text = f'{WORD} <&> "\N{SNOWMAN}"'
            await self.in_thread(socket.say, "kim", text)
            await self.in_thread(socket.say, "kim", content, **header)
            await self.in_thread(socket.send, _frame("kim", f"{WORD} unsigned"))
            await self.in_thread(socket.ping)
        finally:
            await self.in_thread(socket.close)
        [kim] = await self.connected(server, "kim", homes=homes)
        await self.sees(kim, f"lea -> kim [VERIFIED]: {text}")
        await self.sees(kim, f"lea -> kim [VERIFIED] [ENCRYPTED]: {WORD} secret")
        await self.sees(kim, f"lea -> kim: {WORD} unsigned")


class WebSocketUvloopTests(WebSocketTests):
    """… on uvloop."""

    server_reactor = "uvloop"


def _frame(to: str, content: str) -> dict[str, Any]:
    return {"header": {"to": to}, "body": {"content": content}}


def sealed(text: str, x25519_public_key: str) -> tuple[str, dict[str, str]]:
    """Content and header fields of an encrypted message (WIRE.md, "Encryption")."""
    key, nonce, ephemeral = os.urandom(32), os.urandom(12), X25519Key.generate()
    content = b64(AESGCM(key).encrypt(nonce, text.encode(), None))
    box = Box(ephemeral, PublicKey(base64.b64decode(x25519_public_key)))
    encrypted_key = bytes(ephemeral.public_key) + bytes(box.encrypt(key, os.urandom(24)))
    header = {"encrypted_key": b64(encrypted_key), "encryption_nonce": b64(nonce)}
    return content, header


@functools.cache
def install_ws(folder: Path) -> str:
    """Install Node's `ws` and `tweetnacl` into a folder, once; "", or why that cannot be."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        return "node or npm is missing: nothing is known of clients in Node"
    options = ["--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    packages = ["ws@8", "tweetnacl@1"]
    command = [npm, "install", *options, "--fetch-timeout=10000", f"--prefix={folder}", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=40)
    except subprocess.TimeoutExpired:
        return "npm takes too long to install ws: nothing is known of clients in Node"
    if done.returncode:
        return f"npm cannot install ws: {done.stderr.strip()[-300:]}"
    return ""


class NodeTests(EndToEnd):
    """The contract, as Node's `ws` sees it (tests/interop.js)."""

    modules: ClassVar[Path]

    def setUp(self) -> Any:
        """Have `ws`, or say loudly why not."""
        if not hasattr(NodeTests, "modules"):
            NodeTests.modules = self.directory()
        return self.in_thread(install_ws, NodeTests.modules).addCallback(self._skip_if)

    def _skip_if(self, reason: str) -> None:
        if reason:
            raise SkipTest(reason)

    async def test_ws(self) -> None:
        """Register, be refused, speak, be away, ask, close: all as WIRE.md says."""
        server = await self.serve()
        node = self.node(server, "interop.js")
        self.assertEqual(await self.status(node), 0, node.lines)
        parts = ["register", "refusal", "offline", "direct", "command", "close"]
        self.assertEqual(node.lines, [f"ok {part}" for part in parts])

    async def test_sealed(self) -> None:
        """A classic client in another language and ours seal and sign for each other."""
        server = await self.serve()
        node = self.node(server, "interop_sealed.js")
        await self.sees(node, "ok open")
        [kim] = await self.connected(server, "kim")
        kim.says(f"@nod {WORD} <there> & \N{WAVING HAND SIGN}")
        text = f"{WORD} <there> & \N{WAVING HAND SIGN}"
        await self.sees(node, f"kim -> nod [VERIFIED] [ENCRYPTED]: {text}")
        text = f"{WORD} <back> & \u00e9 \N{WAVING HAND SIGN}"
        await self.sees(kim, f"nod -> kim [VERIFIED] [ENCRYPTED]: {text}")
        self.assertEqual(await self.status(node), 0, node.lines)

    async def test_flood(self) -> None:
        """Who sends more than can be stored now is read more slowly, and refused nothing."""
        server = await self.serve(*GENEROUS)
        node = self.node(server, "interop_flood.js")
        self.assertEqual(await self.status(node), 0, node.lines)
        self.assertEqual(node.lines, ["ok flood"])

    def node(self, server: Server, script: str) -> Process:
        """A program in JavaScript that talks to a server."""
        environ = {
            "NODE_PATH": str(self.modules / "node_modules"),
            "PORT": str(server.tls_port),
            "CA": str(server.certificate),
        }
        path = str(Path(__file__).with_name(script))
        return self.start("node", [str(shutil.which("node")), path], environ)


class NodeUvloopTests(NodeTests):
    """… on uvloop."""

    server_reactor = "uvloop"
