"""Tests of `wschat.opening`: the short way into a WebSocket answers what the long way does."""

from __future__ import annotations

import gc
import re

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    PING,
    TEXT,
    Limits,
    ServerTests,
    client_frame,
    left_to_collect,
    submission,
)
from wschat import opening

ORIGIN = "https://chat.example"
BEYOND = "https://chat.example:65536"  # no port has that number
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3

#: Of each header what clients send, and what they should not.
HEADERS = {
    "Host": [
        "chat.example",
        "chat.example:8443",
        "[::1]:8443",
        "[::1]",
        "a b",
        "chat.example:port",
        "",
    ],
    "Upgrade": ["websocket", "WebSocket", "h2c", "h2c, websocket", ""],
    "Connection": [
        "Upgrade",
        "keep-alive, Upgrade",
        "keep-alive,upgrade",
        "close",
        "upgrades",
        "up grade",
    ],
    "Sec-WebSocket-Version": ["13", "8", "013", "13, 8", " 13 ", "x"],
    "Sec-WebSocket-Key": [KEY, KEY[:-1], KEY + "=", "=" * 24, KEY.replace("h", "_")],
    "Origin": [
        ORIGIN,
        "https://other.example",
        "null",
        "https://",
        "HTTPS://CHAT.EXAMPLE",
        "x",
        BEYOND,
    ],
    "Sec-WebSocket-Protocol": [
        "wschat.v1",
        "chat, wschat.v1",
        "wschat.v1,wschat.v1",
        "chat",
        "a;b",
        ", ,",
    ],
    "Sec-WebSocket-Extensions": [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=99",
        "x-other",
        "permessage-deflate; nonsense",
    ],
    "Authorization": ["Bearer TOKEN", "bearer TOKEN", "Basic TOKEN", "Bearer", "Bearer  TOKEN "],
    "Content-Length": ["0", "5", "x"],
    "Transfer-Encoding": ["chunked"],
    "Expect": ["100-continue"],
    "X-Forwarded-For": ["192.0.2.7", "192.0.2.7, 192.0.2.8", "garbage"],
    "User-Agent": ["a browser", "\x01", "gr\u00fc\u00df"],
    "X-Odd": [": :", "tab\there", "folded\r\n more"],
}
NEEDED = ("Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key")

PATHS = [
    "/ws?token=TOKEN",
    "/ws",
    "/ws?token=",
    "/ws?token=wrong",
    "/ws?token=TOKEN&token=wrong",
    "/ws?a=b&token=TOKEN",
    "/ws?token=TOKEN%20",
    "/ws/?token=TOKEN",
    "/ws/more?token=TOKEN",
    "/wsx?token=TOKEN",
    "/health",
    "/ws#part?token=TOKEN",
]
STARTS = ["GET {} HTTP/1.1", "POST {} HTTP/1.1", "GET {} HTTP/1.0", "GET  {} HTTP/1.1", "{}"]

ENDS = ["\r\n\r\n", "\r\n", "\n\n"]
WRITTEN = ["{}: {}", "{}:{}", "{}:  {} ", "{} : {}", "\t{}: {}"]


@st.composite
def requests(draw: st.DrawFn) -> str:
    """A good request, in which a few things are unusual or wrong."""
    start, path, end = STARTS[0], PATHS[0], ENDS[0]
    lines = {name: (WRITTEN[0], name, HEADERS[name][0]) for name in NEEDED}
    for change in draw(st.lists(st.sampled_from("spewwlhhhhhh"), max_size=3)):
        name = draw(st.sampled_from(sorted(HEADERS)))
        written, _, value = lines.get(name, (WRITTEN[0], name, HEADERS[name][0]))
        if change == "s":
            start = draw(st.sampled_from(STARTS))
        elif change == "p":
            path = draw(st.sampled_from(PATHS))
        elif change == "e":
            end = draw(st.sampled_from(ENDS))
        elif change == "w":
            lines[name] = (draw(st.sampled_from(WRITTEN)), name, value)
        elif change == "l":
            lines.pop(name, None)
        else:  # twice, when its name is written in another way
            key = name if draw(st.booleans()) else name.lower()
            lines[key] = (written, key, draw(st.sampled_from(HEADERS[name])))
    ordered = draw(st.permutations(sorted(lines.values())))
    told = [start.format(path), *(written.format(name, value) for written, name, value in ordered)]
    return "\r\n".join(told) + end


class TakeTests(SynchronousTestCase):
    """What is taken, and what is left to others."""

    good = (
        b"GET /ws?token=a.b-c_d HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n"
        b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: chat, wschat.v1\r\nOrigin: https://chat.example\r\n\r\n"
    )

    def test_usual(self) -> None:
        """The usual handshake is taken, and what comes behind it is left."""
        found = opening.take(self.good + b"\x81\x80mask")
        subprotocols = ("chat", "wschat.v1")
        expected = opening.Opening("a.b-c_d", ORIGIN, None, KEY, subprotocols, b"\x81\x80mask")
        self.assertEqual(found, expected)

    def test_bearer(self) -> None:
        """The token may be in a header."""
        line = b"Authorization: Bearer x.y.z\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
        found = opening.take(self.good.replace(b"?token=a.b-c_d", b"")[:-2] + line)
        assert found is not None
        self.assertEqual((found.token, found.forwarded), ("x.y.z", "192.0.2.7"))

    def test_not_whole(self) -> None:
        """A handshake that may go on is left."""
        for end in range(len(self.good)):
            self.assertIsNone(opening.take(self.good[:end]))

    def test_too_long(self) -> None:
        """So is one with a lot in it."""
        for padding, taken in ((7000, True), (8192, False)):
            long = self.good[:-2] + b"X-Long: " + b"x" * padding + b"\r\n\r\n"
            self.assertEqual(opening.take(long) is not None, taken)

    def test_answer(self) -> None:
        """The accept key is that of RFC 6455 section 1.3."""
        said = opening.answer(KEY, "wschat.v1").decode()
        self.assertIn("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", said)
        self.assertIn("\r\nSec-WebSocket-Protocol: wschat.v1\r\n", said)
        self.assertNotIn("Protocol", opening.answer(KEY, None).decode().split("\r\n", 1)[1])


class ComparisonTests(ServerTests):
    """The short way and the long way, side by side."""

    limits = Limits(allowed_origins=frozenset({ORIGIN, BEYOND}), login_rate=1e6)

    def setUp(self) -> None:
        super().setUp()
        self.server.add_users("alice", "bob")
        self.token = self.server.token("alice")
        self.begin = self.server.secure.begin
        self.taken = 0

    def good(self) -> bytes:
        """A handshake as it should be."""
        return TakeTests.good.replace(b"a.b-c_d", self.token.encode())

    def said(self, data: bytes, *, together: bool, long: bool) -> tuple[bytes, bool]:
        """What a connection with those first bytes is told, and whether it stays open."""
        self.server.secure.begin = None if long else self.begin
        wire = self.server.open_wire()
        frames = client_frame(TEXT, submission("bob", "hello")) + client_frame(PING, b"ping")
        for packet in [data + frames] if together else [data, frames]:
            wire.feed(packet)
            self.server.turn()
        told = b"".join(wire.writes)
        connected = wire.connected
        if connected:
            wire.lose()
        self.server.turn()
        return re.sub(rb"\r\nDate: [^\r]*", b"", told), connected

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(request=requests(), together=st.booleans())
    def test_same_answers(self, request: str, together: bool) -> None:
        """Whatever comes first, and frames behind it, have the same answer either way."""
        data = request.replace("TOKEN", self.token).encode("latin-1")
        short, long = (self.said(data, together=together, long=long) for long in (False, True))
        self.assertEqual(short, long)
        self.taken += opening.take(data) is not None
        self.assertEqual(len(self.server.hub.registry), 0)

    def test_frames_behind_it(self) -> None:
        """What comes in the packet of the handshake is read."""
        for long in (False, True):
            said, connected = self.said(self.good(), together=True, long=long)
            self.assertTrue(connected)
            self.assertTrue(said.endswith(b"\x8a\x04ping"), said)

    def test_ending(self) -> None:
        """Nobody is let in by a server that ends."""
        self.server.factory.connections.let_nobody_in()
        for long in (False, True):
            said, _ = self.said(self.good(), together=False, long=long)
            self.assertTrue(said.startswith(b"HTTP/1.1 503 "), said)

    def test_disabled(self) -> None:
        """Nor is an account that is disabled, which is counted once."""
        user = self.server.accounts.users["alice"]
        self.server.accounts.users["alice"] = msgspec.structs.replace(user, disabled_at=1.0)
        for number, long in enumerate((False, True), 1):
            said, _ = self.said(self.good(), together=False, long=long)
            self.assertTrue(said.startswith(b"HTTP/1.1 403 "), said)
            self.assertEqual(self.server.factory.meters.refused[403], number)

    def test_nothing_to_collect(self) -> None:
        """A connection that came the long way, or was refused, leaves nothing to the collector."""
        answered = [
            self.good(),
            self.good().replace(b"token=", b"token=x"),
            b"GET /health HTTP/1.1\r\nHost: chat.example\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: chat.example\r\n\r\nGET and nothing",
            b"nonsense\r\n\r\n",
        ]
        for data in answered:
            gc.collect()
            self.said(data, together=False, long=True)
            self.assertEqual(left_to_collect(), set(), data)

    def tearDown(self) -> None:
        """The comparison means something only where the short way was gone."""
        if "same_answers" in self.id():
            self.assertGreater(self.taken, 40)
