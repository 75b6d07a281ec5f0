"""
What nobody would send: the kept inputs again, and others by chance (scripts.fuzz).

`./just fuzz` makes many more; one that it fails on is kept in tests/corpus.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scripts.fuzz import transport
from scripts.fuzz.__main__ import SHARES
from scripts.fuzz.engine import CORPUS, Fault, Outcome, Target, corpus, make, mutated, watching
from scripts.fuzz.server import Frames, Http
from scripts.fuzz.targets import TARGETS
from wschat import web, wire
from wschat.connections import Connections

examples = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class CorpusTests(SynchronousTestCase):
    """The kept inputs of every target, one by one."""

    def test_names(self) -> None:
        """There are kept inputs for each target, and a share of a run."""
        self.assertEqual({path.name for path in CORPUS.iterdir()}, set(TARGETS))
        self.assertEqual(set(SHARES), set(TARGETS))

    def _replay(self, name: str) -> None:
        target = make(name)
        with watching() as check:
            for file, data in corpus(name).items():
                try:
                    target(data)
                    check()
                except Exception as error:
                    raise AssertionError(f"{name}/{file}: {error!r}") from error

    def test_wire(self) -> None:
        """Classic frames, commands and answers."""
        self._replay("wire")

    def test_v1(self) -> None:
        """Frames of `wschat.v1`."""
        self._replay("v1")

    def test_http(self) -> None:
        """Requests, whole, in pieces and smuggled."""
        self._replay("http")

    def test_frames(self) -> None:
        """What comes on an open WebSocket."""
        self._replay("frames")

    def test_client(self) -> None:
        """What a lying server says to a client."""
        self._replay("client")

    def test_handshake(self) -> None:
        """What it answers to a client's WebSocket."""
        self._replay("handshake")

    def test_files(self) -> None:
        """A user's damaged files."""
        self._replay("files")

    def test_lines(self) -> None:
        """What is typed, or written by a program."""
        self._replay("lines")


class ChanceTests(SynchronousTestCase):
    """Properties: no target fails, whatever it is given."""

    def setUp(self) -> None:
        self.seeds = {name: list(corpus(name).values()) for name in TARGETS}

    def _holds(self, name: str) -> None:
        target, seeds = make(name), self.seeds[name]

        @examples
        @given(st.integers(min_value=0), st.binary(max_size=200), st.booleans())
        def holds(seed: int, other: bytes, kept: bool) -> None:
            target(mutated(seeds, random.Random(seed)) if kept else other)
            check()

        with watching() as check:
            holds()

    def test_wire(self) -> None:
        """Classic frames are read or refused, and written as they were read."""
        self._holds("wire")

    def test_v1(self) -> None:
        """So are frames of `wschat.v1`."""
        self._holds("v1")

    def test_http(self) -> None:
        """Every connection gets answers or an end, and leaves nothing."""
        self._holds("http")

    def test_frames(self) -> None:
        """Every WebSocket gets frames or a close, and leaves nothing; bob hears alice alone."""
        self._holds("frames")

    def test_client(self) -> None:
        """A server can make a client do nothing that it should not, nor show what controls."""
        self._holds("client")

    def test_handshake(self) -> None:
        """A WebSocket is opened or lost, once, and leaves no timer."""
        self._holds("handshake")

    def test_files(self) -> None:
        """Damaged files are refused in one line, and lose nobody's key."""
        self._holds("files")

    def test_lines(self) -> None:
        """A line is understood or not."""
        self._holds("lines")


class OracleTests(SynchronousTestCase):
    """What the targets notice: each sees a fault that is put there."""

    def _notices(self, target: Target, name: str, file: str) -> None:
        with watching() as check, self.assertRaises(Exception):  # noqa: B017  # any is noticed
            target(corpus(name)[file])
            check()

    def test_raised(self) -> None:
        """An exception that no contract names."""
        self.patch(wire, "valid_user_id", lambda name: 1 // 0)
        self._notices(make("wire"), "wire", "direct")

    def test_logged(self) -> None:
        """A traceback in the log, though the peer got an answer."""
        self.patch(web.Web, "_health", lambda *_: 1 // 0)
        self._notices(Http(), "http", "health")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_left(self) -> None:
        """A connection that is gone and not forgotten."""
        target = Frames()
        self.patch(Connections, "discard", lambda *_: None)
        self._notices(target, "frames", "classic")

    def test_grown(self) -> None:
        """Memory that grows without end, and not what is warmed up or goes up and down."""

        def outcome(*blocks: int) -> Outcome:
            return Outcome("wire", "none", samples=list(enumerate(blocks)))

        steady = [100_000, *[200_000, 201_000, 199_000, 202_000] * 5]
        self.assertFalse(outcome(*steady).grows)
        self.assertTrue(outcome(*range(100_000, 300_000, 10_000)).grows)
        self.assertFalse(outcome(5).grows)

    def test_written(self) -> None:
        """What no server may write."""
        for data in (
            b"\x81\x85abcd",
            b"\x81\x02{",
            b"\x88\x00\x81\x02{}",
            b"\x88\x02\x03\xed",
            b"\x83\x00",
        ):
            self.assertRaises(AssertionError, transport.frames, data)
        for text in ('{"a":1,"a":2}', "NaN", "{"):
            self.assertRaises((Fault, ValueError), transport.json_of, text.encode())
        for answer in (
            b"ok",
            b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        ):
            self.assertRaises(Fault, transport.answers, answer)
        good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.assertEqual(transport.answers(good * 2), ([200, 200], b""))
        self.assertEqual(transport.frames(b"\x81\x02{}\x88\x00")[1], transport.Frame(8, b""))
