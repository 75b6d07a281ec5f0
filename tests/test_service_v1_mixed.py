"""Tests of `wschat.service`: classic clients and those of `wschat.v1` on the same server."""

from __future__ import annotations

import json

from tests.support import TEXT, Client, ServerTests, submission
from tests.test_service_v1 import contents, ids, receipt
from wschat.wire import CLASSIC

#: What is in a classic client's frames, all of them.
CLASSIC_KEYS = {"id", "header", "body", "status"}
CLASSIC_HEADER = {
    *("from", "to", "message_type", "is_broadcast", "timestamp"),
    *("signature", "encrypted_key", "encryption_nonce"),
}


class MixedTests(ServerTests):
    """Classic clients see none of it, and nothing that they had is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob", "charlie")
        self.v1 = self.server.connect_v1("alice")
        self.classic = self.server.connect("bob")

    def classic_frames(self, client: Client) -> list[str]:
        """The contents of what a classic client got, which is nothing but classic."""
        came = []
        for text in client.texts():
            frame = json.loads(text)
            self.assertEqual(set(frame) - CLASSIC_KEYS, set())
            self.assertEqual(set(frame["header"]) - CLASSIC_HEADER, set())
            came.append(frame["body"]["content"])
        return came

    def test_no_frames_of_v1(self) -> None:
        """A conversation with a client of v1, and all that goes with it, is classic messages."""
        self.v1.send_json({"type": "presence"})
        self.v1.submit("bob", "direct", "m-1", follows="m-0")
        self.v1.submit("broadcast", "all", "m-2")
        self.classic.say("alice", "answer")
        self.v1.ack(3)
        self.v1.wire.lose()
        self.server.advance(2)
        self.assertNotIn(b"m-", b"".join(self.classic.wire.writes))
        self.assertEqual(self.classic_frames(self.classic), ["direct", "all"])

    def test_same_bytes(self) -> None:
        """What a client of v1 sends reaches a classic one as if a classic one had sent it."""
        other = self.server.connect("charlie")
        self.v1.submit("bob", "hi", "m-1")
        other.say("bob", "hi")
        one, two = self.classic.messages()
        self.assertEqual(one["header"].pop("from"), "alice")
        self.assertEqual(two["header"].pop("from"), "charlie")
        self.assertEqual((one.pop("id"), two.pop("id")), (1, 2))
        self.assertEqual(one, two)

    def test_kept_messages(self) -> None:
        """… whether it comes live or was missed."""
        live = self.server.connect("bob")
        self.v1.submit("bob", "hi", "m-1")
        texts = self.classic.texts()
        self.assertEqual(len(texts), 1)
        for client in (live, self.classic):
            client.wire.lose()
        self.assertEqual(self.server.connect("bob").texts(), texts)

    def test_to_v1(self) -> None:
        """A classic client's message reaches one of v1, without a client id; nobody is told."""
        self.classic.say("alice", "hi")
        (message,) = self.v1.frames("message")
        self.assertEqual((message["id"], message["header"]["from"]), (1, "bob"))
        self.assertNotIn("client_id", message["header"])
        self.v1.ack(1)
        self.server.advance(1)
        self.assertEqual(self.classic.messages(), [])

    def test_client_id_of_a_classic_client(self) -> None:
        """What a classic client may put into its frames is not looked at."""
        for _ in range(2):
            self.classic.say("alice", "hi", client_id="m-1", follows="m-0")
        self.assertEqual(contents(self.v1), ["hi", "hi"])
        self.assertEqual(self.classic.messages(), [])

    def test_frames_of_v1_from_a_classic_client(self) -> None:
        """Nor are its frames those of v1: they are messages, or none."""
        for frame in ({"type": "resume"}, {"type": "ack", "id": 1}, {"type": "presence"}):
            self.classic.send_json(frame)
        self.assertEqual([m["status"] for m in self.classic.messages()], ["error"] * 3)
        self.classic.send(TEXT, json.dumps(json.loads(submission("alice", "hi"))).encode())
        self.assertEqual(contents(self.v1), ["hi"])

    def test_pong_is_an_acknowledgement(self) -> None:
        """A classic recipient's pong is what its sender is told as delivered."""
        self.v1.submit("bob", "hi", "m-1")
        self.assertEqual(self.v1.frames("stored", "delivered"), [receipt("stored", "m-1", 1)])
        self.classic.pong()
        self.server.turn()
        self.assertEqual(self.v1.frames("delivered"), [receipt("delivered", "m-1", 1)])

    def test_no_pings_for_v1(self) -> None:
        """A client of v1 is not asked what it has read; only whether it is there."""
        self.classic.say("alice", "hi")
        self.v1.texts()
        self.assertEqual(self.v1.pings, [])
        self.server.advance(60)
        self.v1.texts()
        self.assertEqual(self.v1.pings, [b""])

    def test_pong_of_v1(self) -> None:
        """… nor does a pong of it say so."""
        self.classic.say("alice", "hi")
        self.v1.send(0xA, (1).to_bytes(8, "big"))
        self.server.advance(1)
        self.assertEqual(self.server.cursor("alice"), 0)

    def test_both_of_one_user(self) -> None:
        """A user's classic and v1 sessions each get everything; places of v1 are their own."""
        phone = self.server.connect_v1("bob", "phone")
        self.v1.submit("bob", "1", "m-1")
        self.assertEqual((contents(phone), self.classic.contents()), (["1"], ["1"]))
        self.classic.pong()
        self.server.advance(1)
        phone.wire.lose()
        self.assertEqual(ids(self.server.connect_v1("bob", "phone")), [1])
        self.classic.wire.lose()
        self.assertEqual(self.server.connect("bob").contents(), [])

    def test_acknowledged_by_v1(self) -> None:
        """What a v1 session has acknowledged, a classic one that comes later does not get."""
        self.classic.wire.lose()
        phone = self.server.connect_v1("bob", "phone")
        self.v1.submit("bob", "1", "m-1")
        phone.ack(1)
        phone.wire.lose()
        self.v1.submit("bob", "2", "m-2")
        self.assertEqual(self.server.connect("bob").contents(), ["2"])

    def test_broadcast(self) -> None:
        """A broadcast is written once for each kind of client, and reaches all of both."""
        other, third = self.server.connect("charlie"), self.server.connect_v1("bob")
        self.v1.submit("broadcast", "all", "m-1")
        self.assertEqual([self.classic.contents(), other.contents()], [["all"], ["all"]])
        self.assertEqual((contents(third), contents(self.v1)), (["all"], []))

    def test_malformed(self) -> None:
        """A classic client is told in the classic way what is wrong."""
        self.classic.send(TEXT, b"nonsense")
        (error,) = self.classic.messages()
        self.assertEqual((error["header"]["from"], error["status"]), ("system", "error"))


class NegotiationTests(ServerTests):
    """Which kind of client it is."""

    def upgrade(self, *protocols: str) -> str | None:
        """What the server answers to an offer of subprotocols."""
        if "alice" not in self.server.keys:
            self.server.add_user("alice")
        offer = {"sec_websocket_protocol": ", ".join(protocols)} if protocols else {}
        _, response = self.server.upgrade(f"/ws?token={self.server.token('alice')}", **offer)
        self.assertEqual(response.status, 101)
        return response.headers.get("sec-websocket-protocol")

    def test_offered(self) -> None:
        """It is taken when it is offered, among others too."""
        self.assertEqual(self.upgrade("wschat.v1"), "wschat.v1")
        self.assertEqual(self.upgrade("chat", "wschat.v1", "wschat.v2"), "wschat.v1")

    def test_not_offered(self) -> None:
        """Who offers none, or others, is a classic client, and none is named to them."""
        found = [self.upgrade(), self.upgrade("chat"), self.upgrade("WSCHAT.V1", "wschat.v10")]
        self.assertEqual(found, [None, None, None])
        self.assertEqual({session.dialect for session in self.server.hub.registry}, {CLASSIC})
