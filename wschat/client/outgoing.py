"""
What a client has to say: what waits, what was sent, and what is sent again.

Pure; times are seconds since the epoch, and given.  Over `wschat.v1` nothing
is lost and nothing said twice: what has no receipt is sent again under the
same client id, in its order.  A classic server tells less, and gets each
message once.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Container
from typing import Final

from wschat import v1, wire
from wschat.limits import TokenBucket

#: A little below the server's default limit: what is sent evenly may arrive in bursts.
MESSAGE_RATE: Final = 9.0
MESSAGE_BURST: Final = 17.0

#: How much of its limits a server is asked for, since others of the user may send as well.
_SHARE: Final = 0.9

#: Messages that may wait to be sent, or for their receipt.
QUEUE_MESSAGES: Final = 1000

#: So that a clock that has moved on by a wait shows another time.
_SHORTEST_WAIT: Final = 0.001

#: Messages a second, for a server that takes fewer than `MESSAGE_RATE`.
_SLOWEST: Final = 0.5

#: The longest that a server may ask to wait, in seconds.
_LONGEST_HOLD: Final = 60.0


class QueueFull(Exception):
    """Too many messages wait to be sent."""


class Item:
    """
    One thing to send: a message, a command, or a question of `wschat.v1`.

    `name` is a message's client id or a command's request id, the same each
    time it is sent.  What is `ready` is signed, and sealed if it is to be.
    """

    __slots__ = ("command", "name", "number", "previous", "question", "ready", "settled", "what")

    def __init__(
        self, name: str, what: wire.Message | v1.Request, *, command: bool = False
    ) -> None:
        self.name = name
        self.what = what
        self.command = command
        self.question = not isinstance(what, wire.Message)
        self.ready = self.question or command
        self.number = 0
        self.previous: Item | None = None  # what was said before it
        self.settled = False

    @property
    def direct(self) -> bool:
        """Whether it is a message to a user."""
        return isinstance(self.what, wire.Message) and self.what.kind is wire.Kind.DIRECT

    def frame(self, *, is_v1: bool) -> bytes:
        """As it is sent now."""
        if not isinstance(self.what, wire.Message):
            return v1.encode(self.what)
        if not is_v1:
            return wire.encode_submission(self.what)
        earlier = self.earlier()
        self.what.follows = None if earlier is None else earlier.name
        return v1.encode(v1.submission(self.what))

    def earlier(self) -> Item | None:
        """The last of what was said before it that is not settled."""
        while self.previous is not None and self.previous.settled:
            self.previous = self.previous.previous
        return self.previous

    def settle(self) -> None:
        """The server has dealt with it; what follows it may still have to wait for what did not."""
        self.settled = True
        self.earlier()  # so that no more is remembered than is not settled


class Outgoing:
    """The queue in front of a connection, and what went through it without an answer yet."""

    def __init__(self, prepare: Callable[[Item], bool | None]) -> None:
        """
        `prepare` makes an item ready before it is sent first.

        It says False when the item has to wait, and all that was said after
        it, and None when it is not to be sent at all.
        """
        self._prepare = prepare
        self._waiting: deque[Item] = deque()
        self._again: list[Item] = []  # to be sent again before anything else, by number
        self._sent: dict[str, Item] = {}  # over `wschat.v1`, until there is a receipt
        self._last: Item | None = None
        self._rate = MESSAGE_RATE
        self._pace = (MESSAGE_RATE, MESSAGE_BURST)
        self._bucket = TokenBucket(*self._pace)
        self._held_until = 0.0
        self._open = False
        self._is_v1 = False
        self._since = 0  # messages sent to a classic server after the last command was
        self._commands: deque[tuple[str, int]] = deque()  # … and before each, not yet answered
        self.sent = 0

    @property
    def waiting(self) -> int:
        """How many things have not been sent yet, or have to be sent again."""
        return len(self._waiting) + len(self._again)

    @property
    def held_here(self) -> int:
        """How many things are kept, to be sent or to be sent again; no more than so many."""
        return self.waiting + len(self._sent)

    @property
    def unanswered(self) -> int:
        """How many messages were sent of which it is not known whether they arrived."""
        sent = sum(1 for item in self._sent.values() if not item.command)
        return sent + self._since + sum(messages for _, messages in self._commands)

    @property
    def unsettled(self) -> int:
        """How many messages wait, or may not have arrived: who asks something loses nothing."""
        waiting = sum(
            1 for item in (*self._waiting, *self._again) if not (item.question or item.command)
        )
        return waiting + self.unanswered

    @property
    def unasked(self) -> bool:
        """Whether a message was sent to a classic server that no command followed."""
        return self._since > 0

    def knows(self, name: str) -> bool:
        """Whether something of that name waits to be sent, or for its receipt."""
        waits = any(item.name == name for item in (*self._waiting, *self._again))
        return waits or name in self._sent

    @property
    def sent_again(self) -> list[Item]:
        """What was sent on an earlier connection and is sent again on this one."""
        return list(self._again)

    def put(self, item: Item, *, bounded: bool = True) -> None:
        """Have something sent.  Raises `QueueFull`, unless it is not to be `bounded`."""
        if bounded and self.held_here >= QUEUE_MESSAGES:
            raise QueueFull(f"{QUEUE_MESSAGES} messages wait to be sent already.")
        if not item.question:
            item.previous = self._last
            item.number = self._last.number + 1 if self._last is not None else 1
            self._last = item
        self._waiting.append(item)

    def opened(self, *, is_v1: bool) -> None:
        """A connection is open."""
        self._open = True
        self._is_v1 = is_v1
        self._held_until = 0.0

    def lost(self) -> int:
        """The connection is gone; of how many messages will it not be known if they arrived?"""
        self._open = False
        unknown = self._since + sum(messages for _, messages in self._commands)
        self._since = 0
        self._commands.clear()
        for item in list(self._sent.values()):
            self._send_again(item)
        return unknown

    def forget(self, names: Container[str]) -> None:
        """Do not send these commands and questions: nobody waits for an answer any more."""
        for item in (*self._waiting, *self._again):
            if item.name in names:
                item.settle()
        self._waiting = deque(item for item in self._waiting if item.name not in names)
        self._again = [item for item in self._again if item.name not in names]

    def take(self, now: float) -> list[bytes]:
        """The frames that may be sent now."""
        frames = []
        while self._ready(now) and self._bucket.allow(now):
            item = self._again.pop(0) if self._again else self._waiting.popleft()
            frames.append(item.frame(is_v1=self._is_v1))
            self.sent += not item.question
            if self._is_v1:
                if not item.question:
                    self._sent[item.name] = item
            elif item.command:
                self._commands.append((item.name, self._since))
                self._since = 0
            else:
                self._since += 1
                item.settle()
        return frames

    def _ready(self, now: float) -> bool:
        """Whether the next item may be sent, but for the rate."""
        while self._open and not self.held(now):
            if self._again:
                return True  # it was ready when it was sent first
            if not self._waiting:
                return False
            item = self._waiting[0]
            ready = item.ready or self._prepare(item)
            if ready is not None:
                return ready
            self._waiting.popleft().settle()
        return False

    def wait(self, now: float) -> float | None:
        """Seconds until `take` has more; None when it is not a matter of time."""
        if not (self._open and self.waiting):
            return None
        if not (self.held(now) or self._ready(now)):
            return None
        wait = max(self._bucket.wait(now), self.held(now))
        return max(_SHORTEST_WAIT, wait) if wait > 0 else 0.0

    def settled(self, name: str) -> Item | None:
        """The server has dealt with something; what that was, unless it was known already."""
        item = self._sent.pop(name, None)
        if item is not None:
            item.settle()
        return item

    def stored(self, name: str) -> Item | None:
        """As `settled`; also of what would be sent again, and had arrived all the same."""
        again = next((item for item in self._again if item.name == name), None)
        if again is None:
            return self.settled(name)
        self._again.remove(again)
        again.settle()
        return again

    def refused_for_now(self, name: str, wait: float, now: float) -> bool:
        """Send something again, after `wait` seconds; False when it is not known."""
        item = self._sent.get(name)
        if item is None:
            return False
        self._send_again(item)
        self.hold(wait, now)
        return True

    def count(self, now: float) -> None:
        """Something was sent by the way, which the server counts as well."""
        self._bucket.allow(now)

    def hold(self, wait: float, now: float) -> None:
        """Send nothing for so many seconds."""
        self._held_until = now + max(self.held(now), min(wait, _LONGEST_HOLD))

    def held(self, now: float) -> float:
        """For how many seconds nothing may be sent, because the server said so."""
        if self._held_until > now + _LONGEST_HOLD:  # the clock was set back
            self._held_until = now
        return max(0.0, self._held_until - now)

    def _send_again(self, item: Item) -> None:
        del self._sent[item.name]
        bisect.insort(self._again, item, key=lambda item: item.number)

    def answered(self, request_id: str) -> None:
        """A command was answered, and so was all that was sent before it."""
        self.settled(request_id)
        if any(asked == request_id for asked, _ in self._commands):
            while self._commands.popleft()[0] != request_id:
                pass

    def pace(self, rate: float, burst: float, now: float) -> None:
        """Keep a little below a server's limits, which it has told; what was sent counts."""
        wanted = (max(_SLOWEST, rate * _SHARE), max(1.0, burst * _SHARE))
        if wanted != self._pace:
            used = round(self._pace[1])
            while self._bucket.allow(now):
                used -= 1
            self._pace = wanted
            self._bucket = TokenBucket(*wanted)
            for _ in range(used):
                self._bucket.allow(now)

    def slow_down(self) -> None:
        """A classic server's limit is lower than thought, or somebody else uses it up."""
        self._rate = max(_SLOWEST, self._rate / 2)
        self._bucket = TokenBucket(self._rate, 1)
