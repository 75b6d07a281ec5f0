"""The metrics: what a server that did things says of them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support import ADDRESS, TEXT, Limits, Response, Server, ServerTests, submission
from wschat.codes import CloseCode
from wschat.testing import NOW


class MetricsTests(ServerTests):
    """What is asked for over HTTP, from this host."""

    def ask(self) -> Response:
        return self.server.request("GET", "/metrics", address="127.0.0.1")

    def values(self) -> dict[str, float]:
        """Every sample by its name and labels, as Prometheus' own parser reads it."""
        answer = self.ask()
        self.assertEqual(answer.status, 200, answer)
        return {
            sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): (
                sample.value
            )
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def changes(self, before: dict[str, float]) -> dict[str, float]:
        """What has changed, but for histograms' buckets and the process."""
        now = self.values()
        return {
            name: value - before.get(name, 0)
            for name, value in now.items()
            if value != before.get(name, 0)
            and name.startswith("wschat_")
            and not name.startswith(("wschat_database", "wschat_commit_seconds"))
            and "_bucket" not in name
        }

    def test_content_type(self) -> None:
        """It is the text format, and says so."""
        self.assertRegex(self.ask().headers["content-type"], r"\Atext/plain; version=")

    def test_idle(self) -> None:
        """Before anything has happened all is there, and nothing is counted."""
        values = self.values()
        self.assertEqual(values["wschat_messages_total direct stored"], 0)
        self.assertEqual(values["wschat_closed_total slow"], 0)
        self.assertEqual(values["wschat_logins_total failure"], 0)
        self.assertEqual(values["wschat_limited_total bytes"], 0)
        self.assertEqual(values["wschat_connections"], 0)
        self.assertEqual(values["wschat_http_connections"], 1)  # the one that asks
        self.assertEqual(values["wschat_database_up"], 1)
        self.assertGreater(values["wschat_database_bytes"], 10_000)
        self.assertEqual(values["wschat_certificate_expiry_timestamp_seconds"], NOW + 86400)
        self.assertGreater(values["process_resident_memory_bytes"], 0)

    def test_conversation(self) -> None:
        """Messages, deliveries, receipts and sessions."""
        before = self.values()
        self.server.add_users("alice", "bob")
        alice, bob = self.server.connect_v1("alice"), self.server.connect_v1("bob")
        self.server.connect("bob")
        alice.submit("bob", "one", "a1")
        alice.submit("bob", "one", "a1")
        alice.submit("broadcast", "two", "a2")
        alice.submit("nobody", "three", "a3")
        (message, *_) = bob.frames("message")
        bob.ack(message["id"])
        changes = self.changes(before)
        wanted = {
            "wschat_connections": 3,
            "wschat_sessions": 3,
            "wschat_users": 2,
            "wschat_users_online": 2,
            "wschat_messages_total direct stored": 1,
            "wschat_messages_total direct repeated": 1,
            "wschat_messages_total broadcast stored": 1,
            "wschat_messages_total any unknown_recipient": 1,
            "wschat_deliveries_total": 4,
            "wschat_receipts_total stored": 3,
            "wschat_receipts_total delivered": 1,
            "wschat_commit_messages_count": 3,
            "wschat_commit_messages_sum": 3,
        }
        self.assertEqual(changes, wanted)

    def test_missed(self) -> None:
        """What is handed over later is counted apart."""
        (alice,) = self.connect("alice")
        self.server.add_user("bob")
        for _ in range(3):
            alice.say("bob", "later")
        before = self.values()
        self.server.connect("bob")
        self.assertEqual(self.changes(before)["wschat_replays_total"], 3)

    def test_command(self) -> None:
        """Commands are messages that are answered."""
        (alice,) = self.connect("alice")
        before = self.values()
        alice.say("server", '{"command": "ping"}')
        self.assertEqual(self.changes(before), {"wschat_messages_total server answered": 1})

    def test_too_much(self) -> None:
        """Messages over the limit, and frames that are none."""
        self.server = Server(Limits(message_rate=1, message_burst=2))
        (alice,) = self.connect("alice")
        before = self.values()
        alice.send(TEXT, b"junk")
        for _ in range(3):
            alice.say("alice", "word")
        changes = self.changes(before)
        self.assertEqual(changes["wschat_messages_total any malformed"], 1)
        self.assertEqual(changes["wschat_messages_total any rate_limited"], 2)
        self.assertEqual(changes["wschat_limited_total messages"], 2)

    def test_store_fails(self) -> None:
        """Commits that fail, and what waits for one that has not ended."""
        (alice,) = self.connect("alice")
        before = self.values()
        self.server.store.writer.held = True
        for _ in range(3):
            alice.say("alice", "word")
        waiting = 2 * len(submission("alice", "word"))  # the first is in the commit
        self.assertEqual(self.changes(before)["wschat_queue_bytes"], waiting)
        self.server.store.writer.fail(OSError("gone"))
        self.server.store.writer.held = False
        self.server.store.writer.release()
        changes = self.changes(before)
        self.assertEqual(changes["wschat_commits_failed_total"], 1)
        self.assertEqual(changes["wschat_messages_total direct not_stored"], 1)
        self.assertEqual(changes["wschat_messages_total direct stored"], 2)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_slow_reader(self) -> None:
        """What waits for a reader, until it is too much: then it is closed, and counted."""
        self.server = Server(Limits(outbox_bytes=20_000))
        alice, bob = self.connect("alice", "bob")
        before = self.values()
        bob.wire.stall()
        alice.say("bob", "x" * 9000)
        self.assertGreater(self.changes(before)["wschat_outbox_bytes"], 9000)
        for _ in range(3):
            alice.say("bob", "x" * 9000)
        changes = self.changes(before)
        self.assertEqual(changes["wschat_closed_total slow"], 1)
        self.assertNotIn("wschat_outbox_bytes", changes)
        self.assertEqual(changes["wschat_sessions"], -1)

    def test_refused(self) -> None:
        """WebSockets that were not let in, by status."""
        before = self.values()
        for _ in range(2):
            self.server.upgrade("/ws?token=x", address=ADDRESS)
        self.assertEqual(self.changes(before)["wschat_refused_total 401"], 2)

    def test_every_close_code(self) -> None:
        """Every reason to close is there from the start."""
        names = {f"wschat_closed_total {code.name.lower()}" for code in CloseCode}
        self.assertLessEqual(names, self.values().keys())

    def test_servers_of_one_process(self) -> None:
        """Each has numbers of its own."""
        other = Server()
        other.add_user("alice")
        self.assertEqual(self.values()["wschat_users"], 0)

    def test_nothing_secret(self) -> None:
        """There are numbers alone: no names, and nothing that anybody said."""
        alice, _ = self.connect("alice", "bob")
        alice.say("bob", "quokka")
        text = self.ask().text
        for word in ("alice", "bob", "quokka", self.server.token("alice")):
            self.assertNotIn(word, text)
