"""Tests of `wschat.service` for clients of `wschat.v1`: sessions and acknowledgements."""

from __future__ import annotations

from typing import Any

from tests.support import NOW, TEXT, Client, Limits, ServerTests
from wschat import rotation, wire
from wschat.codes import CloseCode
from wschat.identity import PrivateKey
from wschat.stream import PAGE_MESSAGES


def ids(client: Client) -> list[int]:
    """The ids of the messages that came since the last time."""
    return [frame["id"] for frame in client.frames("message")]


def contents(client: Client) -> list[str]:
    """The contents of the messages that came since the last time."""
    return [frame["body"]["content"] for frame in client.frames("message")]


def errors(client: Client) -> list[tuple[int, str | None]]:
    """The errors that came since the last time: their codes and client ids."""
    return [(frame["code"], frame.get("client_id")) for frame in client.frames("error")]


def receipt(kind: str, client_id: str, message_id: int) -> dict[str, Any]:
    return {"type": kind, "client_id": client_id, "id": message_id}


class ResumeTests(ServerTests):
    """The first frame of a connection."""

    limits = Limits(message_rate=100, message_burst=300)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")

    def send(self, *texts: str, to: str = "bob") -> None:
        """Messages of alice's."""
        alice = self.server.connect("alice")
        for text in texts:
            alice.say(to, text)
        alice.wire.lose()

    def test_nothing_missed(self) -> None:
        """It is answered with the place, what may be sent, and that nothing was missed."""
        resumed = {
            "type": "resumed",
            "session": "phone",
            "position": 0,
            "complete": True,
            "rate": 100.0,
            "burst": 300.0,
        }
        caught_up = {"type": "caught_up", "id": 0}
        self.assertEqual(self.server.connect_v1("bob", "phone").frames(), [resumed, caught_up])

    def test_missed(self) -> None:
        """What was missed comes between the two, and what is new after them."""
        self.send("1", "2")
        bob = self.server.connect_v1("bob")
        self.send("3")
        frames = bob.frames()
        self.assertEqual(
            [frame["type"] for frame in frames],
            ["resumed", "message", "message", "caught_up", "message"],
        )
        self.assertEqual((frames[0]["session"], frames[0]["position"]), ("default", 0))
        self.assertEqual([frame.get("id") for frame in frames[1:]], [1, 2, 2, 3])

    def test_caught_up_with_what_is_for_others(self) -> None:
        """`caught_up` says how far: past what was not for this user, too."""
        self.send("1")
        self.send("2", to="alice")
        self.assertEqual(
            self.server.connect_v1("bob").frames("caught_up"), [{"type": "caught_up", "id": 2}]
        )

    def test_pages(self) -> None:
        """More than a page comes whole, in order, each once."""
        numbers = [str(number) for number in range(2 * PAGE_MESSAGES + 1)]
        self.send(*numbers)
        self.assertEqual(contents(self.server.connect_v1("bob")), numbers)

    def test_frame_before_it(self) -> None:
        """Anything else before it is refused, and does nothing; the connection stays open."""
        early = self.server.connect_v1("bob", session=None)
        early.submit("alice", "too early", "m-1")
        self.assertEqual(errors(early), [(101, "m-1")])
        for frame in (
            {"type": "ack", "id": 0},
            {"type": "ack", "id": 5},
            {"type": "status", "client_ids": ["m-1"]},
            {"type": "history", "with": "alice"},
            {"type": "presence"},
        ):
            early.send_json(frame)
            self.assertEqual(errors(early), [(101, None)], frame)
        early.send_json({"type": "resume"})
        self.assertEqual([frame["type"] for frame in early.frames()], ["resumed", "caught_up"])
        self.assertEqual(contents(self.server.connect_v1("alice")), [])

    def test_nothing_comes_before_it(self) -> None:
        """Until a client says where it is, it gets nothing; then each message once, in order."""
        bob = self.server.connect_v1("bob", session=None)
        self.send("1", "2")
        self.assertEqual(bob.frames(), [])
        bob.send_json({"type": "resume"})
        self.send("3")
        self.assertEqual(contents(bob), ["1", "2", "3"])

    def test_twice(self) -> None:
        """A second one is refused, and changes nothing."""
        bob = self.server.connect_v1("bob", "phone")
        bob.frames()
        bob.send_json({"type": "resume", "session": "laptop"})
        self.assertEqual(errors(bob), [(101, None)])
        self.send("1")
        self.assertEqual(contents(bob), ["1"])
        self.assertEqual([s.name for s in self.server.hub.registry.of("bob")], ["phone"])

    def test_stale(self) -> None:
        """Who does not resume within ten seconds is closed with 4002."""
        bob = self.server.connect_v1("bob", session=None)
        self.server.advance(9)
        self.assertIsNone(bob.closed_with())
        self.server.advance(1)
        self.assertEqual(bob.closed_with(), 4002)
        self.assertEqual(bob.close_reason, CloseCode.STALE.reason)

    def test_not_stale(self) -> None:
        """Who resumed, who is gone, and who is a classic client, are left alone."""
        bob, classic = self.server.connect_v1("bob"), self.server.connect("bob")
        gone = self.server.connect_v1("alice", session=None)
        gone.wire.lose()
        self.server.advance(30)
        self.assertEqual([bob.closed_with(), classic.closed_with()], [None, None])

    def test_malformed(self) -> None:
        """A frame that is none is answered with the code, and with its client id if it has one."""
        bob = self.server.connect_v1("bob")
        bob.frames()
        bob.send(TEXT, b"hello")
        bob.send_json({"type": "message", "header": {"client_id": "m-1"}, "body": {}})
        bob.send_json({"type": "message", "header": {"client_id": "m-2"}, "body": {"content": ""}})
        self.assertEqual(errors(bob), [(100, None), (100, "m-1"), (100, "m-2")])
        self.assertIsNone(bob.closed_with())


class SessionTests(ServerTests):
    """Several sessions of a user, each with a place of its own."""

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.connect("alice")
        self.server.add_user("bob")

    def say(self, *texts: str) -> None:
        for text in texts:
            self.alice.say("bob", text)

    def test_replaced(self) -> None:
        """Another connection of the same session takes over; the earlier is told, with 4500."""
        first = self.server.connect_v1("bob", "phone")
        second = self.server.connect_v1("bob", "phone")
        self.assertEqual((first.closed_with(), second.closed_with()), (4500, None))
        self.assertEqual(first.close_reason, CloseCode.REPLACED.reason)
        first.frames()
        self.say("1")
        self.assertEqual((contents(first), contents(second)), ([], ["1"]))

    def test_replaced_by_somebody(self) -> None:
        """
        … once the later one has answered a ping.

        What a client sent on a connection that it gave up may arrive after
        all, and takes over nothing.
        """
        phone = self.server.connect_v1("bob", "phone")
        given_up = self.server.connect_v1("bob", session=None)
        given_up.send_json({"type": "resume", "session": "phone"})
        self.say("1")
        self.assertEqual((contents(phone), given_up.frames()), (["1"], []))
        self.assertIsNone(phone.closed_with())
        given_up.wire.lose()
        self.say("2")
        self.assertEqual(contents(phone), ["2"])

    def test_gone_when_it_answers(self) -> None:
        """… and is there still: a pong that comes while it is being closed takes over nothing."""
        phone = self.server.connect_v1("bob", "phone")
        late = self.server.connect_v1("bob", session=None)
        late.send_json({"type": "resume", "session": "phone"})
        late.frames()
        (session,) = [s for s in self.server.hub.registry.of("bob") if not s.live]
        session.close(CloseCode.SLOW)
        late.pong()
        self.assertIsNone(phone.closed_with())

    def test_late_answer(self) -> None:
        """… nor does the answer of one that was given up, when a later one has been served."""
        first = self.server.connect_v1("bob", "phone")
        given_up = self.server.connect_v1("bob", session=None)
        given_up.send_json({"type": "resume", "session": "phone"})
        current = self.server.connect_v1("bob", "phone")
        self.assertEqual((first.closed_with(), current.closed_with()), (4500, None))
        given_up.frames()
        given_up.pong()
        self.assertEqual((given_up.closed_with(), current.closed_with()), (4500, None))
        self.say("1")
        self.assertEqual(contents(current), ["1"])

    def test_never_answers(self) -> None:
        """One that never shows that it is there is closed after ten seconds, as a stale one."""
        phone = self.server.connect_v1("bob", "phone")
        silent = self.server.connect_v1("bob", session=None)
        silent.send_json({"type": "resume", "session": "phone"})
        self.server.advance(11)
        self.assertEqual((phone.closed_with(), silent.closed_with()), (None, CloseCode.STALE))

    def test_refused_question(self) -> None:
        """A question that is refused is named by its request id."""
        bob = self.server.connect_v1("bob", "phone")
        bob.frames()
        bob.send_json({"type": "history", "with": "alice", "limit": 0, "request_id": "h1"})
        (error,) = bob.frames()
        self.assertEqual((error["code"], error["request_id"]), (100, "h1"))

    def test_replaced_says_nothing_more(self) -> None:
        """What the earlier connection still sends does not count."""
        first = self.server.connect_v1("bob", "phone")
        self.say("1")
        second = self.server.connect_v1("bob", "phone")
        first.ack(1)
        first.submit("alice", "late", "m-1")
        self.server.advance(1)
        self.assertEqual((contents(second), self.server.cursor("bob")), (["1"], 0))
        self.assertEqual(self.alice.contents(), [])

    def test_replaced_before_it_was_served(self) -> None:
        """A connection that is taken over while its place is looked up gets nothing more."""
        self.server.store.reader.held = True
        first = self.server.connect_v1("bob", "phone")
        second = self.server.connect_v1("bob", "phone")
        self.say("1")
        self.server.store.reader.held = False
        while len(self.server.store.reader):
            self.server.store.reader.release()
        self.server.turn()
        self.assertEqual((contents(first), contents(second)), ([], ["1"]))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_side_by_side(self) -> None:
        """Two names are two sessions: both get everything, and each acknowledges for itself."""
        phone = self.server.connect_v1("bob", "phone")
        laptop = self.server.connect_v1("bob", "laptop")
        self.say("1", "2")
        self.assertEqual((contents(phone), contents(laptop)), (["1", "2"], ["1", "2"]))
        phone.ack(2)
        laptop.ack(1)
        for client in (phone, laptop):
            client.wire.lose()
        self.say("3")
        phone = self.server.connect_v1("bob", "phone")
        laptop = self.server.connect_v1("bob", "laptop")
        self.assertEqual((contents(phone), contents(laptop)), (["3"], ["2", "3"]))

    def test_names_are_a_users_own(self) -> None:
        """Another user's session of the same name is another session."""
        bob = self.server.connect_v1("bob", "phone")
        self.server.connect_v1("alice", "phone")
        self.assertIsNone(bob.closed_with())

    def test_new_one(self) -> None:
        """A session that is new begins with what its user has not read anywhere."""
        phone = self.server.connect_v1("bob", "phone")
        self.say("1", "2", "3")
        phone.ack(2)
        self.server.advance(1)
        self.assertEqual(contents(self.server.connect_v1("bob", "laptop")), ["3"])

    def test_new_one_is_remembered(self) -> None:
        """… and from then on has that place, whatever another session reads."""
        laptop = self.server.connect_v1("bob", "laptop")
        laptop.wire.lose()
        self.server.advance(1)
        phone = self.server.connect_v1("bob", "phone")
        self.say("1")
        phone.ack(1)
        self.server.advance(1)
        self.assertEqual(contents(self.server.connect_v1("bob", "laptop")), ["1"])


class RotationTests(ServerTests):
    """New keys of a user."""

    def rotate(self) -> PrivateKey:
        new = PrivateKey.generate()
        step = rotation.rotate("alice", self.server.keys["alice"], new, wire.format_time(NOW))
        wanted = rotation.Request("alice", step)
        self.successResultOf(self.server.accounts.rotate(wanted, NOW))
        self.server.turn()
        return new

    def test_announced(self) -> None:
        """Who is there with `wschat.v1`, and has said so, is told; once."""
        self.server.add_users("alice", "bob", "charlie", "david")
        told = [self.server.connect_v1("bob", name) for name in ("desk", "phone")]
        others = [self.server.connect("charlie"), self.server.connect_v1("david", None)]
        for client in (*told, *others):
            client.frames()
        new = self.rotate()
        for client in told:
            self.assertEqual(client.frames(), [{"type": "key_rotated", "user_id": "alice"}])
        for client in others:
            self.assertEqual((client.frames(), client.closed_with()), ([], None))
        self.assertEqual(
            self.server.after_crash().accounts.user("alice").public_key, new.public_key
        )

    def test_logged_in_with_the_old(self) -> None:
        """A thief of the old key does not stay as the user whose key it was."""
        self.server.add_users("alice", "bob")
        theirs = [
            self.server.connect("alice"),
            self.server.connect_v1("alice"),
            self.server.connect_v1("alice", None),
        ]
        bob = self.server.connect_v1("bob")
        self.rotate()
        for client in theirs:
            self.assertEqual(client.closed_with(), CloseCode.NEW_KEYS)
            client.submit("bob", "as alice", "t1")
        self.server.turn()
        self.assertEqual(bob.frames("message"), [])


class CatchingUpTests(ServerTests):
    """Acknowledgements by one who is not live yet."""

    def test_first_page(self) -> None:
        """What has come of the missed can be acknowledged before the rest is there."""
        (alice,) = self.connect("alice")
        self.server.add_user("bob")
        for number in range(PAGE_MESSAGES + 1):
            alice.say("bob", str(number))
        reader = self.server.store.reader
        reader.held = True
        bob = self.server.connect_v1("bob")
        reader.release()  # the place
        reader.release()  # the first page
        self.server.turn()
        self.assertEqual(ids(bob), list(range(1, PAGE_MESSAGES + 1)))
        bob.ack(PAGE_MESSAGES)
        self.server.advance(1)
        self.assertEqual(self.server.cursor("bob"), PAGE_MESSAGES)
        reader.release()
        self.server.turn()
        self.assertEqual(ids(bob), [PAGE_MESSAGES + 1])


class AckTests(ServerTests):
    """Acknowledgements, and what comes again without them."""

    limits = Limits(message_rate=1, message_burst=20)

    def setUp(self) -> None:
        super().setUp()
        (self.alice,) = self.connect("alice")
        self.server.add_user("bob")
        self.bob = self.server.connect_v1("bob")

    def say(self, *texts: str) -> None:
        for text in texts:
            self.alice.say("bob", text)

    def again(self, after: int | None = None) -> list[int]:
        """What comes when bob's connection broke and he is back."""
        self.bob.wire.lose()
        self.bob = self.server.connect_v1("bob", after=after)
        return ids(self.bob)

    def test_unacknowledged(self) -> None:
        """Exactly what was not acknowledged comes again, in order, as often as that happens."""
        self.say("1", "2", "3")
        self.bob.ack(1)
        self.assertEqual([self.again(), self.again()], [[2, 3], [2, 3]])
        self.bob.ack(3)
        self.say("4")
        self.assertEqual(self.again(), [4])

    def test_read_is_not_handled(self) -> None:
        """That the connection's pings were answered, or it was closed properly, says nothing."""
        self.say("1")
        self.bob.pong()
        self.bob.goodbye()
        self.server.advance(2)
        self.assertEqual(self.again(), [1])

    def test_after(self) -> None:
        """What the client says that it has handled does not come again."""
        self.say("1", "2", "3")
        self.assertEqual(self.again(after=2), [3])
        self.bob.wire.lose()
        self.bob = self.server.connect_v1("bob")
        self.assertEqual(ids(self.bob), [3])

    def test_after_is_behind(self) -> None:
        """What was acknowledged does not come again, though the client says less."""
        self.say("1", "2")
        self.bob.ack(2)
        self.assertEqual(self.again(after=1), [])

    def test_after_what_there_is(self) -> None:
        """A client that has handled what is not here is told, and goes on with what comes."""
        self.say("1")
        self.bob.wire.lose()
        bob = self.server.connect_v1("bob", after=99)
        (resumed,) = bob.frames("resumed")
        self.assertEqual((resumed["position"], resumed["complete"]), (0, False))
        self.say("2")
        self.assertEqual(ids(bob), [2])
        self.assertEqual(self.alice.frames("delivered"), [])

    def test_after_is_an_acknowledgement(self) -> None:
        """What was handled on a lost connection is saved, as if it had been acknowledged."""
        self.say("1", "2", "3")
        self.bob.wire.lose()
        self.server.connect_v1("bob", after=2)
        self.server.advance(1)
        self.assertEqual((self.server.cursor("bob"), self.server.session_place("bob")), (2, 2))
        self.assertEqual(ids(self.server.connect_v1("bob", "another")), [3])

    def test_saved(self) -> None:
        """An acknowledgement is on disk within a second, without any message, and once."""
        self.say("1")
        self.server.advance(1)
        self.bob.ack(1)
        calls = self.server.store.writer.calls
        self.server.advance(5)
        self.assertEqual((self.server.cursor("bob"), self.server.session_place("bob")), (1, 1))
        self.assertEqual(self.server.store.writer.calls, calls + 1)

    def test_restart(self) -> None:
        """It outlasts the server, whether that was stopped or killed."""
        self.say("1", "2")
        self.bob.ack(1)
        self.server.advance(1)
        for again in (self.server.after_crash(), self.server.restart()):
            self.assertEqual(ids(again.connect_v1("bob")), [2])

    def test_unsaved_when_killed(self) -> None:
        """One that was not saved is made good by the client's `after`, which is saved at once."""
        self.say("1", "2")
        self.bob.ack(1)
        self.assertEqual(ids(self.server.after_crash().connect_v1("bob")), [1, 2])
        again = self.server.after_crash()
        self.assertEqual(ids(again.connect_v1("bob", after=1)), [2])
        self.assertEqual(ids(again.after_crash().connect_v1("bob")), [2])

    def test_too_far(self) -> None:
        """An acknowledgement of what was never sent is refused, and moves nothing."""
        self.say("1")
        self.bob.frames()
        self.bob.ack(2)
        self.assertEqual(errors(self.bob), [(100, None)])
        self.say("2")
        self.assertEqual(self.again(), [1, 2])

    def test_backwards(self) -> None:
        """An old one, or the same again, is no error, and takes nothing back."""
        self.say("1", "2")
        self.bob.frames()
        for message_id in (2, 1, 2, 0):
            self.bob.ack(message_id)
        self.assertEqual(errors(self.bob), [])
        self.assertEqual(self.again(), [])

    def test_new_ones_are_free(self) -> None:
        """Acknowledging each message costs nothing of what a user may send."""
        self.say(*map(str, range(15)))
        self.bob.submit("alice", "first", "m-1")
        for message_id in ids(self.bob)[:14]:
            self.bob.ack(message_id)
        for number in range(19):  # the first is the other one
            self.bob.submit("alice", str(number), f"n-{number}")
        self.assertEqual(errors(self.bob), [])

    def test_flood(self) -> None:
        """Those that say nothing new count as frames, and the limit is told."""
        self.say("1")
        self.bob.frames()
        self.bob.ack(1)
        for _ in range(25):
            self.bob.ack(1)
        self.assertEqual(errors(self.bob), [(120, None)] * 5)  # 20 are allowed

    def test_flood_of_nonsense(self) -> None:
        """So do frames that are none."""
        self.bob.frames()
        for _ in range(25):
            self.bob.send(TEXT, b"nonsense")
        self.assertEqual(errors(self.bob), [(100, None)] * 20 + [(120, None)] * 5)
