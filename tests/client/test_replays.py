"""Tests of `wschat.client.replays`: what has been heard already."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW
from wschat import wire
from wschat.client import replays
from wschat.client.files import write_atomically
from wschat.client.replays import LATER, Replays
from wschat.envelope import Authenticity

ENVELOPE, CONTENT = Authenticity.ENVELOPE, Authenticity.CONTENT
INVALID, NONE = Authenticity.INVALID, Authenticity.NONE


def said(name: str | None, sender: str = "bob", minute: int = 0, number: int = 1) -> wire.Message:
    """A message that was signed as a whole, in some minute."""
    message = wire.Message(sender, "alice", "hello", f"2026-11-22T10:{minute:02}:00Z")
    message.client_id, message.envelope_signature, message.id = name, f"signed {minute}", number
    return message


def sealed(content: str) -> wire.Message:
    """A message of which the ciphertext is signed."""
    return wire.Message("bob", "alice", content, "2026-11-22T10:00:00Z", "s", "key", "nonce")


class JudgedTests(SynchronousTestCase):
    """What comes again, in one program."""

    def setUp(self) -> None:
        self.replays = Replays()

    def judged(self, *messages: wire.Message, worth: Authenticity = ENVELOPE) -> list[Authenticity]:
        return [self.replays.judged(message, worth) for message in messages]

    def test_again(self) -> None:
        """The same sender and client id are the same message, whatever else is changed."""
        first, again = said("a"), said("a", minute=1, number=2)
        self.assertEqual(self.judged(first, again), [ENVELOPE, INVALID])
        self.assertEqual(self.judged(said("b"), said("a", "charlie")), [ENVELOPE, ENVELOPE])

    def test_no_client_id(self) -> None:
        """Who gives messages no name can say several all the same, each of them once."""
        one, other = said(None), said(None, minute=1)
        self.assertEqual(self.judged(one, other, one), [ENVELOPE, ENVELOPE, INVALID])

    def test_sealed(self) -> None:
        """Of what is signed as less, only what is sealed is never the same."""
        for message, again in ((sealed("x"), INVALID), (said("a"), CONTENT)):
            self.assertEqual(self.judged(message, message, worth=CONTENT), [CONTENT, again])

    def test_worthless(self) -> None:
        """What is not the sender's is not remembered as theirs."""
        for worth in (INVALID, NONE):
            self.assertEqual(self.judged(said("a"), said("a"), worth=worth), [worth] * 2)
        self.assertEqual(self.judged(said("a")), [ENVELOPE])

    def test_bounded(self) -> None:
        """Nobody who says much drives out what others said; of what is older nobody knows."""
        self.patch(replays, "REMEMBERED", 3)
        self.judged(said("b", minute=5))
        self.judged(*(said(f"{n}", "charlie", minute=n) for n in range(1, 9)))
        self.assertEqual(self.judged(said("b", minute=5)), [INVALID])
        old, new = said("1", "charlie", minute=1), said("new", "charlie", minute=9)
        self.assertEqual(self.judged(old, new), [NONE, ENVELOPE])

    def test_bounded_sealed(self) -> None:
        """What has no time that is signed cannot be older."""
        self.patch(replays, "REMEMBERED", 1)
        messages = [sealed(f"{n}") for n in range(3)]
        self.assertEqual(self.judged(*messages, worth=CONTENT), [CONTENT] * 3)

    def test_bounded_senders(self) -> None:
        """Of more senders than can be remembered, those are that came last."""
        self.patch(replays, "REMEMBERED", 4)
        messages = [said("a", f"user{n}") for n in range(6)]
        self.judged(*messages)
        self.assertEqual(self.judged(*reversed(messages)), [INVALID] * 4 + [NONE] * 2)

    def test_share(self) -> None:
        """Who has little keeps it, and the others the same; together they have room."""
        self.assertEqual(replays._share([9, 1, 5, 2], 11), 4)
        self.assertEqual(replays._share([3, 3, 3], 8), 2)
        self.assertEqual(replays._share([1, 1, 1], 2), 0)

    def test_bulk(self) -> None:
        """What it costs to forget, of each message, is the same however much is remembered."""
        few, many = self.looked_at(50), self.looked_at(500)
        self.assertGreater(few, 0)
        self.assertLess(many, 2 * few)

    def looked_at(self, remembered: int) -> float:
        """At how many senders is looked, a message, while each message has another sender."""
        looked, share = 0, replays._share

        def counted(sizes: list[int], room: int) -> int:
            nonlocal looked
            looked += len(sizes)
            return share(sizes, room)

        self.patch(replays, "REMEMBERED", remembered)
        self.patch(replays, "_share", counted)
        self.replays = Replays()
        self.judged(*(said("a", f"user{n}") for n in range(5 * remembered)))
        return looked / (5 * remembered)


class FileTests(SynchronousTestCase):
    """What comes again, in a later program."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "heard" / "alice@chat.example:443"

    def judged(self, *messages: wire.Message) -> list[Authenticity]:
        """By a program that begins now."""
        later = Replays(self.path)
        return [later.judged(message, ENVELOPE) for message in messages]

    def hear(self, *messages: wire.Message) -> Replays:
        """A program that hears and handles messages, of which it tells the server."""
        program = Replays(self.path)
        self.hears(program, *messages)
        program.sure(NOW)
        return program

    def hears(self, program: Replays, *messages: wire.Message) -> None:
        for message in messages:
            program.judged(message, ENVELOPE)
            program.handled(message)

    def test_kept(self) -> None:
        """Another program knows what was handled; nobody else does."""
        first, second = said("a", number=1), said("b", number=2)
        self.hear(first).save()
        self.hear(second).save()
        self.assertEqual(self.judged(first, second, said("c")), [INVALID, INVALID, ENVELOPE])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertNotIn("hello", self.path.read_text())

    def test_not_handled(self) -> None:
        """What was not handled comes again, and rightly."""
        program = Replays(self.path)
        program.judged(said("a"), ENVELOPE)
        self.assertFalse(program.save())
        self.assertEqual(self.judged(said("a")), [ENVELOPE])

    def test_not_acknowledged(self) -> None:
        """What was handled comes again, and rightly, while the server does not know that."""
        program = Replays(self.path)
        self.hears(program, said("a"))
        self.assertTrue(program.save())
        self.assertEqual(self.judged(said("a")), [ENVELOPE])
        program.sure(NOW)
        self.assertFalse(program.save())
        self.assertEqual(self.judged(said("a")), [INVALID])

    def test_lost(self) -> None:
        """What was acknowledged just before the connection was lost comes again, and rightly."""
        early, late, never = (said(name, number=n) for n, name in enumerate("abc", 1))
        program = self.hear(early)
        self.hears(program, late)
        program.sure(NOW + 1)
        self.hears(program, never)
        program.unsure(NOW + 1 + LATER)
        self.assertTrue(program.save())
        self.assertEqual(self.judged(early, late, never), [INVALID, ENVELOPE, ENVELOPE])
        program.sure(NOW + 60)
        program.save()
        self.assertEqual(self.judged(early, late, never), [INVALID] * 3)

    def test_lost_twice(self) -> None:
        """However often it is lost, what comes first is written first."""
        program = Replays(self.path)
        for number, name in enumerate("abc"):
            self.hears(program, said(name, minute=number, number=number))
            program.sure(NOW)
            program.unsure(NOW)
        program.sure(NOW)
        program.save()
        times = [line.split()[1] for line in self.path.read_text().splitlines()]
        self.assertEqual((len(times), times), (3, sorted(times)))

    def test_at_once(self) -> None:
        """What one program handles, another that has begun gets as well."""
        other = Replays(self.path)
        self.hear(said("a")).save()
        self.assertIs(other.judged(said("a"), ENVELOPE), ENVELOPE)

    def test_later(self) -> None:
        """It is written down when the server has heard that it was handled."""
        program = self.hear(said("a"))
        self.assertTrue(program.save(NOW + LATER - 1))
        self.assertEqual(self.judged(said("a")), [ENVELOPE])
        self.assertFalse(program.save(NOW + LATER))
        self.assertEqual(self.judged(said("a")), [INVALID])

    def test_clock_set_back(self) -> None:
        """… and when it cannot be known how long ago that was."""
        self.hear(said("a")).save(NOW - 1)
        self.assertEqual(self.judged(said("a")), [INVALID])

    def test_bounded(self) -> None:
        """A file that has grown is made shorter, and nothing is new because of that."""
        self.patch(replays, "REMEMBERED", 3)
        messages = [said(f"{n}", minute=n, number=n) for n in range(9)]
        self.hear(*messages).save()
        for _ in range(2):
            self.assertEqual(
                self.judged(messages[0], messages[-1], said("new", minute=9)),
                [NONE, INVALID, ENVELOPE],
            )
            self.assertEqual(self.size, 4)

    @property
    def size(self) -> int:
        """How many lines the file has."""
        return len(self.path.read_text().splitlines())

    def test_bounded_while_running(self) -> None:
        """A file stays short while a program runs, too, and nothing is new because of that."""
        self.patch(replays, "REMEMBERED", 10)
        program = Replays(self.path)
        sizes = []
        messages = [said(f"{n}", minute=n, number=n) for n in range(60)]
        for message in messages:
            self.hears(program, message)
            program.sure(NOW)
            program.save()
            sizes.append(self.size)
        self.assertLess(max(sizes), 3 * 10)
        self.assertEqual(self.judged(messages[0], *messages[-9:]), [NONE] + [INVALID] * 9)

    def test_shortened_seldom(self) -> None:
        """What cannot be shorter is not written anew each time."""
        self.patch(replays, "REMEMBERED", 10)
        self.hear(*(said("a", f"user{n}", number=n) for n in range(50))).save()
        written: list[int] = []

        def counted(path: Path, text: str) -> None:
            written.append(len(text))
            write_atomically(path, text)

        self.patch(replays, "write_atomically", counted)
        for number in range(20):
            self.hear(said(f"{number}", number=number)).save()
        self.assertGreater(self.size, 2 * 10)
        self.assertLess(len(written), 3)

    def test_shortened_for_others(self) -> None:
        """Who shortens the file keeps what others wrote, which is no less new to itself."""
        self.patch(replays, "REMEMBERED", 10)
        program = Replays(self.path)
        self.hear(said("a")).save()
        self.hears(program, *(said(f"{n}", "charlie", number=n) for n in range(11)))
        program.sure(NOW)
        program.save()
        self.assertEqual(self.size, 11)  # all but one, and what that was older than
        self.assertIs(program.judged(said("a"), ENVELOPE), ENVELOPE)
        self.assertEqual(self.judged(said("a")), [INVALID])

    def test_damaged(self) -> None:
        """What is no line of ours counts for nothing, and costs nothing else."""
        self.hear(said("a")).save()
        good = self.path.read_bytes()
        self.path.write_bytes(b"\xff\n\nbob x y\nbob 1\n" + good)
        self.assertEqual(self.judged(said("a"), said("b")), [INVALID, ENVELOPE])

    def test_cut_off(self) -> None:
        """Nor does a line that was cut off, when a program was killed say, spoil the next one."""
        self.hear(said("a")).save()
        self.path.write_bytes(self.path.read_bytes() + b"bob 17953416")
        self.hear(said("b")).save()
        self.assertEqual(self.judged(said("a"), said("b")), [INVALID, INVALID])

    def test_trouble(self) -> None:
        """Where nothing can be read or written, a program knows what it has heard itself."""
        self.path.mkdir(parents=True)
        program = self.hear(said("a"))
        program.save()
        self.assertIs(program.judged(said("a"), ENVELOPE), INVALID)
