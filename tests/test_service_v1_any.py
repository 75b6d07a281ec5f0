"""Every stored message is handled once and in order, whatever happens in between."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Client, Limits, Server
from wschat.store import DiskFull

USERS = ("alice", "bob", "charlie")


@dataclasses.dataclass
class Message:
    """A message that a user wants to have sent, and what they know of it."""

    client_id: str
    to: str
    follows: str | None
    stored: int = 0
    delivered: bool = False


class User:
    """
    A client of `wschat.v1` that does what the protocol asks for, and no more.

    It forgets no message of its own before that is stored, and sends what is
    not stored again when it connects.  What comes to it, it handles: it looks
    at no id but the last one, which it says when it comes back.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.handled: list[int] = []
        self.sent: list[Message] = []
        self.client: Client | None = None
        self.came = 0  # the last message that came on this connection

    def connect(self, server: Server) -> None:
        """Come, or come back; what is not known to be stored is sent again, in order."""
        if self.client is not None:
            return
        self.came = 0
        after = self.handled[-1] if self.handled else None
        self.client = server.connect_v1(self.name, after=after)
        self.send_again()

    def send_again(self) -> None:
        for message in self.sent:
            if not message.stored:
                self._submit(message)

    def send(self, to: str, count: int) -> None:
        for _ in range(count):
            follows = self.sent[-1].client_id if self.sent else None
            message = Message(f"{self.name}-{len(self.sent)}", to, follows)
            self.sent.append(message)
            if self.client is not None:
                self._submit(message)

    def _submit(self, message: Message) -> None:
        assert self.client is not None
        self.client.submit(message.to, message.client_id, message.client_id, message.follows)

    def read(self, limit: int | None = None) -> None:
        """Handle what has come: all of it, or as many messages as one was able to."""
        if self.client is None:
            return
        for frame in self.client.frames():
            kind = frame["type"]
            if kind == "message":
                if limit is not None and limit <= 0:
                    # It dies here: what it did not look at never came.
                    self.disconnect(reading=False)
                    return
                limit = None if limit is None else limit - 1
                self.came = frame["id"]
                self.handled.append(self.came)
            elif kind in ("stored", "delivered"):
                (message,) = [m for m in self.sent if m.client_id == frame["client_id"]]
                assert message.stored in (0, frame["id"])
                message.stored = frame["id"]
                message.delivered |= kind == "delivered"
            elif kind == "error":
                assert frame["code"] in (123, 124), frame

    def ack(self) -> None:
        """Acknowledge all that came on this connection, if anything did."""
        self.read()
        if self.client is not None and self.came:
            self.client.ack(self.came)

    def replace(self, server: Server) -> None:
        """Come back while the server has not seen the connection's end."""
        self.read()
        self.client = None
        self.connect(server)

    def disconnect(self, *, reading: bool) -> None:
        """The connection breaks, after or before the last that came was read."""
        if self.client is not None:
            if reading:
                self.read()
            client, self.client = self.client, None
            if client is not None:
                client.wire.lose()


class World:
    """A server that may be killed, its store, and its users."""

    def __init__(self, count: int) -> None:
        self.server = Server(Limits())
        self.users = {name: User(name) for name in USERS[:count]}
        self.server.add_users(*self.users)

    def kill(self) -> None:
        """The server dies: what is not on disk is gone, and all connections with it."""
        for user in self.users.values():
            user.client = None
        self.server = self.server.after_crash()

    def restart(self) -> None:
        """The server stops in good order."""
        self.let_go()
        for user in self.users.values():
            user.read()
            user.client = None
        self.server = self.server.restart()

    def let_go(self) -> None:
        """Whatever the store holds is done."""
        for executor in (self.server.store.writer, self.server.store.reader):
            executor.held = False
            executor.report()
        while len(self.server.store.writer) or len(self.server.store.reader):
            self.server.store.writer.release()
            self.server.store.reader.release()
        self.server.turn()

    def report(self) -> None:
        """Whoever waits for the store is told of what was done."""
        self.server.store.writer.report()
        self.server.store.reader.release()

    def fill_the_disk(self, user: User, to: User | None, count: int) -> None:
        """A message is not stored, and what follows it is under way already."""
        writer = self.server.store.writer
        writer.held = True
        for number in (1, count):
            user.send("broadcast" if to is None else to.name, number)
        writer.fail(DiskFull())

    def do(self, action: str, user: User, to: User | None, count: int) -> None:
        """One thing happens, and the reactor turn ends."""
        writer, reader = self.server.store.writer, self.server.store.reader
        happens: dict[str, Callable[[], object]] = {
            "send": lambda: user.send("broadcast" if to is None else to.name, count),
            "connect": lambda: user.connect(self.server),
            "disconnect": lambda: user.disconnect(reading=bool(count % 2)),
            "read": lambda: user.read(None if count % 2 else count),
            "ack": user.ack,
            "replace": lambda: user.replace(self.server),
            "hold": lambda: setattr(writer if count % 2 else reader, "held", True),
            "commit": writer.run,
            "report": self.report,
            "let go": self.let_go,
            "disk full": lambda: self.fill_the_disk(user, to, count),
            "kill": self.kill,
            "restart": self.restart,
            "time": lambda: self.server.advance(1),
        }
        happens[action]()
        self.server.turn()

    def finish(self) -> None:
        """Everybody comes, sends what is not stored, and handles all."""
        self.let_go()
        for _ in range(3):
            for user in self.users.values():
                user.connect(self.server)
                user.read()
                user.send_again()
                user.read()
        for user in self.users.values():
            user.read()
            user.ack()
        self.server.advance(2)
        for user in self.users.values():
            user.read()

    def kept(self, user: User) -> list[tuple[int, str]]:
        """What is stored for a user: ids, and the senders' names for them."""
        messages = self.server.store.stream._page(user.name, 0, 100_000).messages
        return [(message.id, message.client_id or "") for message in messages]


def actions(*names: str) -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    """What happens, to whom, with whom else, and how often or in which way."""
    one = st.tuples(st.sampled_from(names), st.integers(0, 2), st.integers(0, 3), st.integers(1, 3))
    return st.lists(one, max_size=50)


ANYTHING = actions(
    *("send", "send", "send", "connect", "connect", "read", "ack", "ack"),
    *("disconnect", "replace", "hold", "commit", "report", "let go"),
    *("disk full", "kill", "restart", "time"),
)
#: What may happen to a recipient while the sender is there.
COMING_AND_GOING = actions(
    "send", "send", "connect", "read", "ack", "ack", "disconnect", "replace", "hold", "let go"
)


class InterleavingTests(SynchronousTestCase):
    """Users that send, handle, acknowledge, go and come back; a server that dies and comes back."""

    def check(self, world: World) -> None:
        users = world.users.values()
        for user in users:
            kept = world.kept(user)
            self.assertEqual(user.handled, [message_id for message_id, _ in kept], user.name)
            for sender in users:
                wanted = [
                    (message.stored, message.client_id)
                    for message in sender.sent
                    if message.to == user.name or (message.to == "broadcast" and sender is not user)
                ]
                names = {name for _, name in wanted}
                self.assertEqual([m for m in kept if m[1] in names], wanted)
        for sender in users:
            stored = [message.stored for message in sender.sent]
            self.assertEqual(stored, sorted(set(stored)))
            self.assertNotIn(0, stored)

    @settings(deadline=None, max_examples=150)
    @given(st.integers(2, 3), ANYTHING)
    def test_once_and_in_order(self, count: int, steps: list[tuple[str, int, int, int]]) -> None:
        """
        Every message that was to be sent is stored once, in its sender's order.

        And every stored message is handled by whom it is for once and in
        order, by clients that compare no ids.
        """
        world = World(count)
        names = list(world.users)
        for action, who, to, number in steps:
            recipient = world.users[names[to]] if to < count else None
            world.do(action, world.users[names[who % count]], recipient, number)
            self.flushLoggedErrors()
        world.finish()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.check(world)

    @settings(deadline=None, max_examples=50)
    @given(COMING_AND_GOING)
    def test_delivered(self, steps: list[tuple[str, int, int, int]]) -> None:
        """While senders and server stay, each sender hears of each acknowledgement."""
        world = World(2)
        alice, bob = world.users.values()
        alice.connect(world.server)
        for action, _, _, number in steps:
            actor = alice if action == "send" else bob
            world.do(action, actor, bob, number)
            alice.read()
        world.finish()
        self.check(world)
        self.assertEqual([m for m in alice.sent if not m.delivered], [])

    def test_by_hand(self) -> None:
        """The same, with everything that can go wrong in a row."""
        world = World(2)
        alice, bob = world.users.values()
        steps = itertools.chain.from_iterable(
            [
                [("connect", alice, 1), ("connect", bob, 1), ("send", alice, 3), ("ack", bob, 1)],
                [("send", alice, 2), ("disconnect", bob, 2), ("hold", alice, 1)],
                [("send", alice, 2), ("commit", alice, 1), ("kill", alice, 1)],
                [("connect", bob, 1), ("read", bob, 2), ("connect", bob, 1), ("connect", alice, 1)],
                [("disk full", alice, 1)],
                [("ack", bob, 1), ("restart", alice, 1), ("send", alice, 1)],
            ]
        )
        for action, user, number in steps:
            world.do(action, user, bob, number)
        world.finish()
        self.assertEqual([message.client_id for message in alice.sent][-1], "alice-9")
        self.check(world)
