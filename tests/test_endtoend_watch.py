"""A server that is watched: what real processes write and tell, and what is in none of it."""

from __future__ import annotations

import http.client
import json
import re
import stat
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from scripts.processes import Server
from tests.endtoend import PATIENCE, WORD, Answer, Classic, EndToEnd, b64, request
from tests.test_docs_monitoring import _METRIC, expressions


def plain(server: Server, path: str, **headers: str) -> Answer:
    """Ask the plain listener."""
    connection = http.client.HTTPConnection("localhost", server.http_port, timeout=PATIENCE)
    return request(connection, "GET", path, headers=headers)


class WatchTests(EndToEnd):
    """One conversation, with all that can go wrong in it."""

    async def watched(self, *options: str) -> tuple[Server, Path]:
        log = self.directory()
        server = await self.serve(
            "--security-log-file", str(log), "--administrators", "ops", *options
        )
        return server, log

    def converse(self, server: Server) -> list[str]:
        """Everything that people do, and others try; what of it is secret."""
        alice, bob = Classic.entered(server, "alice"), Classic.entered(server, "bob")
        challenge = alice.challenge()
        wrong = b64(b"\1" * 64)
        body = {"user_id": "alice", "signature": wrong}
        alice.request("POST", "/auth/login?verify=true", body)
        signature = b64(alice.key.sign(challenge).signature)
        alice.request("POST", "/auth/login?verify=true", {**body, "signature": signature})
        alice.request("POST", "/auth/login", {"user_id": f"{WORD} {WORD}\n{WORD}"})
        alice.request("POST", "/auth/register", {"user_id": "x", "public_key": f"no key {WORD}"})
        alice.request("POST", "/auth/register", b"{" + WORD.encode())
        token = alice.login()
        forged = f"{token[:-6]}AAAAAA"
        for path in (f"/ws?token={forged}", "/ws", f"/metrics?token={forged}", f"/x/{WORD}"):
            alice.request("GET", path)
            alice.request("GET", path, Authorization=f"Bearer {forged}")
            plain(server, path)
        with alice.open(token) as here, bob.open(Authorization=f"Bearer {bob.login()}") as there:
            here.say("bob", f"hello {WORD}")
            here.say("nobody", f"hello {WORD}")
            here.send_text(f"no json {WORD}")
            there.hear()
            for _ in range(2):  # what could not be done
                here.hear()
            here.ask(json.dumps({"command": WORD, "params": [WORD]}))
        return [
            token,
            forged,
            signature,
            wrong,
            b64(challenge),
            WORD,
            b64(bytes(alice.key)),
            alice.public_key,
            (server.data_dir / "jwt-secret").read_text().strip(),
        ]

    async def test_nothing_secret_is_written(self) -> None:
        """No log of a run has a token, a key, a signature, or a word that anybody said."""
        for options in ((), ("--log-format", "json")):
            server, log = await self.watched(*options)
            secrets = await self.in_thread(self.converse, server)
            await self.end(server.process)
            said = "\n".join(server.process.lines)
            self.assertIn("alice", said)
            for text in (said, log.read_text()):
                self.assertEqual([secret for secret in secrets if secret in text], [])

    async def test_json(self) -> None:
        """With `--log-format json` every line that the process writes is an object."""
        server, _ = await self.watched("--log-format", "json")
        await self.in_thread(self.converse, server)
        await self.end(server.process)
        lines = [json.loads(line) for line in server.process.lines]
        self.assertGreater(len(lines), 10)
        for line in lines:
            self.assertLessEqual({"time", "level", "namespace", "message"}, line.keys())
        (listening,) = (line for line in lines if line.get("scheme") == "https")
        self.assertEqual(listening["port"], server.tls_port)
        self.assertEqual(lines[-1]["message"], "stopped")

    async def test_security_log(self) -> None:
        """It says who came, who did not, from where and why, in a file for its owner alone."""
        server, log = await self.watched()
        await self.in_thread(self.converse, server)
        await self.end(server.process)
        self.assertEqual(stat.S_IMODE(log.stat().st_mode), 0o600)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual({line["address"] for line in lines}, {"127.0.0.1"})
        events = {(line["event"], line["user_id"], line.get("reason", "")) for line in lines}
        for expected in (
            ("registration", "alice", ""),
            ("login", "alice", "The signature does not fit the challenge."),
            ("login", "alice", ""),
            ("login", "bob", ""),
            ("login", "", "Unknown user."),
            ("websocket", "", "The token is not valid."),
        ):
            self.assertIn(expected, events)

    async def test_metrics(self) -> None:
        """A server that runs tells this host all that the dashboard shows."""
        server, _ = await self.watched()
        await self.in_thread(self.converse, server)
        values: dict[str, float] = {}
        while not values.get("wschat_reactor_lag_seconds_count"):  # it is measured now and then
            answer = await self.in_thread(plain, server, "/metrics")
            self.assertEqual(answer.status, 200)
            families = text_string_to_metric_families(answer.text)
            values = {s.name: s.value for family in families for s in family.samples}
        wanted = {name for text in expressions() for name in _METRIC.findall(text)}
        self.assertGreater(len(wanted), 25)
        self.assertLessEqual(wanted, values.keys())
        self.assertGreater(values["wschat_commit_seconds_sum"], 0)
        self.assertGreater(values["wschat_certificate_expiry_timestamp_seconds"], 1.7e9)
        self.assertNotRegex(answer.text, re.compile(rf"alice|bob|{WORD}"))

    async def test_ready_and_administrators(self) -> None:
        """It is ready, and tells analytics to nobody but an administrator."""
        server, _ = await self.watched()
        ready = await self.in_thread(plain, server, "/ready")
        self.assertEqual((ready.status, ready.json), (200, {"status": "ready"}))
        ops, alice = Classic(server, "ops"), await self.in_thread(Classic.entered, server, "alice")
        answer = await self.in_thread(ops.register)
        self.assertEqual(answer.status, 403)
        token = await self.in_thread(alice.login)
        authorization = f"Bearer {token}"
        answer = await self.in_thread(
            alice.request, "GET", "/analytics/summary", Authorization=authorization
        )
        self.assertEqual(answer.status, 403)
