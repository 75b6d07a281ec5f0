"""What a client reads: from a server that lies, from files, from those who type."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scripts.fuzz.engine import Fault
from scripts.fuzz.transport import Transport, chunks, json_of
from wschat import v1, wire
from wschat.client import console, jsonlines, keyring, people, session, session_events
from wschat.client.accounts import Accounts, ConnectionProblem, RequestRefused
from wschat.client.listener import Heard, Listener
from wschat.client.replays import Replays
from wschat.client.settings import Encryption, Settings
from wschat.client.trust import Keys, KnownUsers, Pin, TrustError
from wschat.client.websocket import Connection, ConnectionFactory
from wschat.envelope import Authenticity
from wschat.identity import PrivateKey

_NOW: Final = 1795341600.0
_KEY: Final = PrivateKey(bytes(range(32)))
_OTHER: Final = PrivateKey(bytes(32))

#: What no terminal is to be sent: all that could control it, or turn its text around.
_CONTROLS: Final = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(line: str) -> None:
    """A line is about to be shown on a terminal."""
    if _CONTROLS.search(line):
        raise Fault(f"would control the terminal: {line!r}")


def _settings(directory: Path | None = None) -> Settings:
    return Settings(
        host="chat.example",
        port=443,
        user_id="alice",
        username="alice",
        private_key=None,
        insecure_tls=False,
        debug=False,
        auto_announce=False,
        auto_mode=False,
        known_users=None if directory is None else directory / "known_users",
    )


class _Lying(Accounts):
    """The HTTP of a server that answers what an input says, in its order."""

    def __init__(self, settings: Settings, answers: list[bytes]) -> None:
        super().__init__(Clock(), settings, _KEY)
        self._answers = answers

    async def _request(self, method: str, path: str, json: object = None) -> tuple[int, bytes]:
        if not self._answers:
            raise ConnectionProblem("The server is gone.")
        answer = self._answers.pop(0)
        status = answer[:3]
        return (int(status) if status.isdigit() else 200), answer[3:]


def _done(result: Any) -> Any:
    """What a coroutine comes to that waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(result).addBoth(results.append)
    (value,) = results
    if hasattr(value, "raiseException"):
        value.raiseException()
    return value


def client_target(data: bytes) -> None:
    """
    What a server says to a client, line by line: frames, and answers (`<200{…}`) to its questions.

    The first byte says in which dialect, and how the client seals.
    """
    how, lines = (data[0] if data else 0), data[1:].split(b"\n")
    answers = [line[1:] for line in lines if line.startswith(b"<")]
    settings = _settings()
    accounts = _Lying(settings, answers)
    told = Listener()
    them = people.People(settings, _KEY, accounts, told, lambda: _NOW)
    talk = session.Session("alice", _KEY, "desk", None, tuple(Encryption)[how >> 1 & 1])
    with contextlib.suppress(RequestRefused, ConnectionProblem):
        _done(accounts.login())
    talk.opened(is_v1=bool(how & 1))
    names = [talk.send("bob", "one", _NOW, "c1"), talk.send(wire.BROADCAST, "two", _NOW, "c2")]
    talk.command("ping", _NOW)
    for number, line in enumerate(line for line in lines if not line.startswith(b"<")):
        now = _NOW + number
        for user_id in list(talk.wanted):
            with contextlib.suppress(RequestRefused, ConnectionProblem):
                talk.know(user_id, _done(them.sealing_key(user_id)))
        for frame in talk.data_to_send(now):
            json_of(frame)
        talk.wait(now)
        with contextlib.suppress(wire.Malformed):
            event = talk.receive(line, now)
            _event(event, talk, them)
    if talk.waiting + talk.unanswered > len(names) + 1:
        raise Fault("the server made the client send more than was said")
    talk.lost()


def _event(event: session_events.Event | None, talk: session.Session, them: people.People) -> None:
    """What a program makes of an event."""
    if isinstance(event, session_events.Received):
        heard = _done(them.read(event.message))
        _heard(heard)
        talk.handled(event.message)
        them.handled(event.message)
    elif isinstance(event, session_events.Told) and isinstance(event.answer, v1.History):
        messages = [v1.delivered(frame) for frame in event.answer.messages]
        for heard in _done(them.recall(messages, event.answer.peer)):
            _heard(heard)
    elif isinstance(event, session_events.KeyRotated):
        them.forget(event.user_id)
        with contextlib.suppress(RequestRefused, ConnectionProblem):
            _done(them.whois(event.user_id))
    elif isinstance(event, session_events.Refused):
        shown(console.visible(event.text))


def _heard(heard: Heard) -> None:
    """A message is shown, to people and to programs."""
    line = console.received_line(heard.message, heard.text, heard.authenticity)
    shown(line)
    console.day(heard.message.timestamp)
    written = jsonlines.written({"type": "message", **jsonlines.message(heard)})
    shown(written)
    json_of(written.encode())


class _Owner:
    """Whom a client's WebSocket tells; what it tells has to be in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, connection: Connection) -> None:
        self._tell("opened", after=())

    def received(self, payload: bytes) -> None:
        self._tell("received", after=("opened", "received"))

    def lost(self, code: int | None, reason: str, status: int | None) -> None:
        self._tell("lost", after=("opened", "received", ""))

    def _tell(self, what: str, after: tuple[str, ...]) -> None:
        last = self.told[-1] if self.told else ""
        if last not in (after or ("",)):
            raise Fault(f"{what} after {last!r}")
        self.told.append(what)


class _Timer:
    """Autobahn's timer, by a clock in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call_later(self, delay: float, function: Any, *args: Any, **named: Any) -> Any:
        return self._clock.callLater(delay, function, *args, **named)


def handshake_target(data: bytes) -> None:
    """
    What a server answers to a client's WebSocket, from its first byte on.

    `$ACCEPT` in the input is the right answer to the client's key.  The first
    byte says in which pieces it comes.
    """
    how, data = (data[0] if data else 0), data[1:]
    clock, owner = Clock(), _Owner()
    factory = ConnectionFactory(owner, "wss://chat.example/ws?token=t", (20, 20), clock.seconds)
    factory._batched_timer = _Timer(clock)
    factory.setProtocolOptions(serverConnectionDropTimeout=0)
    connection = factory.buildProtocol(None)
    transport = Transport(clock, "203.0.113.1")
    transport.protocol = connection
    connection.makeConnection(transport)
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", transport.written())
    if key is None:
        raise Fault("no key was sent")
    data = data.replace(b"$ACCEPT", _accept(key[1]))
    transport.feed(chunks(data, how))
    clock.pump([1.0] * 12)
    if not transport.connected or "opened" not in owner.told:
        transport.lose()
    else:
        transport.loseConnection()
    clock.pump([1.0] * 2)
    if owner.told.count("lost") != 1:
        raise Fault(f"told {owner.told}")
    if clock.getDelayedCalls():
        raise Fault(f"timers are left: {clock.getDelayedCalls()}")


def _accept(key: bytes) -> bytes:
    """The answer to a key (RFC 6455 section 4.2.2)."""
    whole = key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(whole, usedforsecurity=False).digest())


class Files:
    """
    Reads an input as a file of a user's: known users, what was heard, keys.

    The first byte says which, and whether a passphrase is given.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="wschat-fuzz-")
        self._path = Path(self._directory.name)

    def __call__(self, data: bytes) -> None:
        how, data = (data[0] if data else 0), data[1:]
        path = self._path / "file"
        path.write_bytes(data)
        path.chmod(0o600)
        (self._known_users, self._heard, self._key)[how % 3](path, data, how >> 2)

    @staticmethod
    def _known_users(path: Path, data: bytes, how: int) -> None:
        known = KnownUsers("chat.example:443", path)
        with contextlib.suppress(TrustError):
            before = known.pin("bob")
            keys = Keys(_OTHER.public_key, _OTHER.x25519_public_key)
            known.update("alice", lambda pin: Pin(keys, former=pin.former if pin else ()))
            again = KnownUsers("chat.example:443", path)
            if repr(again.pin("bob")) != repr(before):  # no number is NaN
                raise Fault(f"bob was {before}, and is {again.pin('bob')}")
            pinned = again.pin("alice")
            if pinned is None or pinned.keys != keys:
                raise Fault(f"alice is {pinned}")

    @staticmethod
    def _heard(path: Path, data: bytes, how: int) -> None:
        replays = Replays(path)
        message = wire.Message("bob", "alice", "text", "2026-11-22T10:00:00Z", client_id="c1")
        replays.judged(message, Authenticity.ENVELOPE)
        replays.handled(message)
        replays.sure(_NOW)
        replays.save()
        if Replays(path).judged(message, Authenticity.ENVELOPE) is (Authenticity.ENVELOPE):
            raise Fault("what was heard is news again")

    @staticmethod
    def _key(path: Path, data: bytes, how: int) -> None:
        fields = data.split()
        dear = fields[:1] == [b"argon2id"] and any(len(field) > 5 for field in fields[1:3])
        if dear:
            return  # it would take its time, as it should
        with contextlib.suppress(keyring.KeyringError):
            key = keyring.load(path, "", lambda: "pass" if how & 1 else "")
            if not key.public_key:
                raise Fault("a key without a key")


def lines_target(data: bytes) -> None:
    """What is typed on a terminal, or written by a program."""
    text = data.decode("utf-8", "replace")
    for line in text.split("\n"):
        for parse in (console.parse, jsonlines.parse):
            try:
                meaning = parse(line)
            except console.NotUnderstood as error:
                shown(console.visible(str(error)))
                continue
            if isinstance(meaning, console.Direct):
                shown(console.sent_label(meaning.to, meaning.text))
            elif isinstance(meaning, console.Broadcast):
                shown(console.sent_label(wire.BROADCAST, meaning.text))
            elif isinstance(meaning, console.Slash):
                _arguments(meaning)


def _arguments(slash: console.Slash) -> None:
    """What is behind a command, for each that takes something."""
    for parse in (console.parse_history, console.parse_trust):
        with contextlib.suppress(console.NotUnderstood):
            parse(slash.rest)
    with contextlib.suppress(console.NotUnderstood):
        console.parse_user(slash)
