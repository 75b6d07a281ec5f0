"""Commands to the server, signed by `cryptography` and answered in the classic shape."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Annotated, Any, Literal, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta, Raw
from twisted.trial.unittest import SynchronousTestCase

import wschat
from wschat.commands import (
    Asked,
    CommandError,
    Commands,
    Misdeclared,
    answer_message,
    command,
)
from wschat.identity import User
from wschat.wire import CommandAnswer, Kind, Message, Status

NOW = 1_000_000_000.75


@command
def shout(user_id: str, text: str, times: Annotated[int, Meta(ge=1, le=3)] = 1) -> Any:
    """An operator's command."""
    return {"shouted": text.upper() * times, "by": user_id}


def plain(user_id: str) -> str:
    """A function that is no command yet."""
    return user_id


class CommandsTests(SynchronousTestCase):
    """Alice asks."""

    def setUp(self) -> None:
        self.connected = 3
        self.commands = Commands(lambda: self.connected)
        self.key = Ed25519PrivateKey.generate()
        public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        self.alice = User("alice", "Alice", public, None, 0.0)

    def signed(self, data: bytes) -> str:
        return base64.b64encode(self.key.sign(data)).decode()

    def find(self, content: str, signature: str | None) -> Asked | CommandAnswer:
        asked = Message("alice", "server", content, "2026-11-22T10:00:00Z", signature)
        return self.commands.find(asked, self.alice, NOW)

    def answer(self, content: str, signature: str | None) -> Message:
        """The server's answer, the envelope of which is always the same."""
        found = self.find(content, signature)
        assert isinstance(found, CommandAnswer)
        answer = answer_message(found, "alice", NOW)
        self.assertEqual(
            (answer.sender, answer.topic, answer.kind, answer.id, answer.timestamp),
            ("server", "alice", Kind.DIRECT, 0, "2001-09-09T01:46:40.750000Z"),
        )
        success = json.loads(answer.content)["success"]
        self.assertIs(answer.status, Status.DELIVERED if success else Status.ERROR)
        return answer

    def run_text(self, content: str) -> Any:
        """What the answer to a signed content holds."""
        return json.loads(self.answer(content, self.signed(content.encode())).content)

    def run_command(self, name: str, **more: Any) -> Any:
        return self.run_text(json.dumps({"command": name, **more}))

    def assertRefused(self, answer: Message, request_id: bool = False) -> None:
        """An answer that says why not, in a line, and has no result."""
        content = json.loads(answer.content)
        keys = {"success", "error", "request_id"} if request_id else {"success", "error"}
        self.assertEqual((content["success"], set(content)), (False, keys))
        self.assertTrue(content["error"] and "\n" not in content["error"])

    def test_added(self) -> None:
        """An operator's command is found, with what was sent for it; it is listed."""
        self.commands.add(shout)
        self.commands.add(shout)  # by another way, say
        content = json.dumps({"command": "shout", "params": {"text": "hi"}, "request_id": "r"})
        found = self.find(content, self.signed(content.encode()))
        assert isinstance(found, Asked)
        self.assertEqual((found.command, found.request_id), (shout, "r"))
        self.assertEqual(found.command.arguments(found.params), {"text": "hi"})
        self.assertIn("shout", self.run_command("list_commands")["result"]["commands"])

    def test_added_unsigned(self) -> None:
        """An operator's command must be signed like any other."""
        self.commands.add(shout)
        self.assertRefused(
            self.answer('{"command": "shout", "params": {"text": "hi"}, "request_id": 1}', None),
            True,
        )

    def test_added_replaces_nothing(self) -> None:
        """No name of the server's own, nor one of another command, can be taken."""
        self.commands.add(shout)
        for name in ("ping", "echo", "server_info", "user_count", "list_commands", "shout"):
            error = self.assertRaises(ValueError, self.commands.add, command(name=name)(plain))
            self.assertIn(name, str(error))
        self.assertEqual(self.run_command("ping")["result"]["message"], "pong")

    def test_answers(self) -> None:
        """What becomes of an operator's command is an answer like the server's own."""
        asked = Asked(shout, Raw(b"{}"), 7)
        done, failed = asked.answer(b'{"x":[1.0]}'), asked.error("no")
        self.assertEqual(
            answer_message(done, "alice", NOW).content,
            '{"success":true,"request_id":7,"result":{"x":[1.0]}}',
        )
        self.assertEqual(
            answer_message(failed, "alice", NOW).content,
            '{"success":false,"request_id":7,"error":"no"}',
        )

    def test_ping(self) -> None:
        """The time is in whole seconds."""
        self.assertEqual(
            self.run_command("ping", request_id="r1"),
            {
                "success": True,
                "request_id": "r1",
                "result": {"message": "pong", "timestamp": 1_000_000_000},
            },
        )

    def test_request_id(self) -> None:
        """It comes back as it was, an integer as an integer; and not at all when there was none."""
        for value in ("", "r", 0, 7, -1, 10**25):
            found = self.run_command("ping", request_id=value)["request_id"]
            self.assertEqual((type(found), found), (type(value), value))
        self.assertNotIn("request_id", self.run_command("ping"))
        self.assertNotIn("request_id", self.run_command("ping", request_id=None))

    def test_echo(self) -> None:
        """Parameters of every sort come back, and who asked."""
        values: list[Any] = [None, True, 1.5, "h\u00e9 \u2028", [1, {"a": [None]}], {"<b>": {}}, {}]
        for params in values:
            self.assertEqual(
                self.run_command("echo", params=params)["result"],
                {"echo": params, "sender": "alice"},
            )

    def test_echo_nothing(self) -> None:
        """Without parameters the echo is null."""
        self.assertEqual(self.run_command("echo")["result"], {"echo": None, "sender": "alice"})

    def test_echo_exactly(self) -> None:
        """Numbers keep their digits, even those that a float would lose."""
        number = "1.00000000000000000000000001"
        content = f'{{"command": "echo", "params": [{number}]}}'
        answer = self.answer(content, self.signed(content.encode()))
        self.assertIn(f'"echo":[{number}]', answer.content)

    def test_server_info(self) -> None:
        """Version, users who are connected, and the time."""
        self.assertEqual(
            self.run_command("server_info")["result"],
            {
                "version": wschat.__version__,
                "connected_users": 3,
                "timestamp": 1_000_000_000,
            },
        )

    def test_user_count(self) -> None:
        """Counted when asked, not before."""
        for self.connected in (0, 5):
            result = self.run_command("user_count")["result"]
            self.assertEqual(result, {"count": self.connected, "timestamp": 1_000_000_000})

    def test_list_commands(self) -> None:
        """The five of the classic server, and each of them is answered."""
        result = self.run_command("list_commands")["result"]
        names = ["echo", "list_commands", "ping", "server_info", "user_count"]
        self.assertEqual(result, {"commands": names, "count": 5})
        self.assertEqual([self.run_command(name)["success"] for name in names], [True] * 5)

    def test_unknown(self) -> None:
        """An unknown command is an error that says which request it answers."""
        for name in ("reboot", "", "Ping", "_ping", "answer"):
            content = json.dumps({"command": name, "request_id": "r"})
            self.assertRefused(self.answer(content, self.signed(content.encode())), True)

    def test_unreadable(self) -> None:
        """Signed nonsense is nonsense."""
        deep = '{"command": "echo", "params": ' + "[" * 30000 + "]" * 30000 + "}"
        for content in ("", "ping", "[]", '{"command": 1}', deep, '{"command": "ping"} x'):
            self.assertRefused(self.answer(content, self.signed(content.encode())))

    def test_unsigned(self) -> None:
        """A command must be signed; otherwise it is not done, and its id is all that is read."""
        self.assertRefused(
            self.answer('{"command": "ping", "request_id": "r"}', None), request_id=True
        )
        self.assertRefused(self.answer("nonsense", None))

    def test_badly_signed(self) -> None:
        """Another key's, another text's, the message encoding's, and what is no signature."""
        content = '{"command": "ping", "request_id": "r"}'
        stranger = Ed25519PrivateKey.generate().sign(content.encode())
        signatures = [
            base64.b64encode(stranger).decode(),
            self.signed(content.encode() + b" "),
            self.signed(json.dumps(content).encode()),
            self.signed(content.encode())[:-4],
            "",
            "\u00e9",
        ]
        for signature in signatures:
            self.assertRefused(self.answer(content, signature), request_id=True)

    def test_utf8(self) -> None:
        """The signature is over the UTF-8 of the content."""
        content = '{"command": "echo", "params": "\u00e9\U0001f600"}'
        self.assertEqual(self.run_text(content)["result"]["echo"], "\u00e9\U0001f600")


@dataclasses.dataclass
class Point:
    """A parameter of an operator's own type."""

    x: int


@command(name="draw", rate=0.5, burst=2, timeout=0.1)
def draw_all(
    user_id: str, points: list[Point], colour: Literal["red", "blue"] | None = None, *, on: date
) -> str:
    """Draws."""
    return f"{user_id} {points} {colour} {on}"


class ParametersTests(SynchronousTestCase):
    """What clients send becomes what functions take."""

    def read(self, params: object) -> dict[str, Any]:
        return draw_all.arguments(Raw(json.dumps(params).encode()))

    def test_typed(self) -> None:
        """JSON becomes what the types say; what was not sent is left to the function's default."""
        given = {"points": [{"x": 1}, {"x": 2}], "on": "2026-11-22"}
        arguments = self.read(given)
        self.assertEqual(arguments, {"points": [Point(1), Point(2)], "on": date(2026, 11, 22)})
        self.assertEqual(
            draw_all("alice", **arguments), "alice [Point(x=1), Point(x=2)] None 2026-11-22"
        )
        self.assertEqual(self.read({**given, "colour": None})["colour"], None)

    def test_refused(self) -> None:
        """Wrong types, missing and unknown names, and what is no object are errors of one line."""
        good = {"points": [], "on": "2026-11-22"}
        self.read(good)
        for wrong, said in (
            ({"points": "x"}, "$.points"),
            ({"points": [{"x": "1"}]}, "$.points[0].x"),
            ({"colour": "green"}, "$.colour"),
            ({"on": "today"}, "$.on"),
            ({"user_id": "bob"}, "user_id"),
            ({"size": 1}, "size"),
        ):
            error = self.assertRaises(CommandError, self.read, {**good, **wrong})
            self.assertIn(said, str(error))
            self.assertNotIn("\n", str(error))
        more: tuple[object, ...] = ({}, {"points": []}, [], "points", 5, True)
        for params in more:
            self.assertRaises(CommandError, self.read, params)

    def test_bounds(self) -> None:
        """Bounds of a type are kept."""
        self.assertEqual(shout.arguments(Raw(b'{"text":"a","times":3}'))["times"], 3)
        self.assertRaises(CommandError, shout.arguments, Raw(b'{"text":"a","times":4}'))

    def test_nothing_sent(self) -> None:
        """Who sends no parameters, or null, sends none."""
        self.assertEqual(command(plain).arguments(Raw(b"null")), {})
        self.assertEqual(command(plain).arguments(Raw(b"{}")), {})
        self.assertRaises(CommandError, shout.arguments, Raw(b"null"))

    def test_deep(self) -> None:
        """What is nested too deeply is an error like any other."""

        @command
        def take(user_id: str, anything: Any) -> None:
            """Takes anything."""

        deep = b'{"anything":' + b"[" * 30000 + b"]" * 30000 + b"}"
        self.assertRaises(CommandError, take.arguments, Raw(deep))


class DeclarationTests(SynchronousTestCase):
    """`@command`."""

    def test_bare(self) -> None:
        """Without anything it has the defaults that the documents say."""
        bare = command(plain)
        self.assertEqual((bare.name, bare.rate, bare.burst, bare.timeout), ("plain", 1, 5, 5))
        self.assertTrue(bare.in_thread)

    def test_given(self) -> None:
        """What is given is taken."""
        self.assertEqual(
            (draw_all.name, draw_all.rate, draw_all.burst, draw_all.timeout), ("draw", 0.5, 2, 0.1)
        )

    def test_where(self) -> None:
        """Plain functions run in a thread unless they are not blocking, coroutines never do."""

        async def wait(user_id: str) -> None:
            """A coroutine function."""

        self.assertFalse(command(blocking=False)(plain).in_thread)
        self.assertFalse(command(wait).in_thread)

    def test_still_a_function(self) -> None:
        """It can be called as it was, and says what it is."""
        self.assertEqual(shout("alice", "hi", times=2), {"shouted": "HIHI", "by": "alice"})
        self.assertEqual(
            (cast(Any, shout).__name__, shout.__doc__), ("shout", "An operator's command.")
        )

    def misdeclared(self, function: Any, *parts: str) -> None:
        """It is refused in one line that has the function's name, and these parts."""
        error = self.assertRaises(Misdeclared, command, function)
        for part in (function.__name__, *parts):
            self.assertIn(part, str(error))
        self.assertNotIn("\n", str(error))

    def test_wrong_first(self) -> None:
        """The first parameter is who asks, and cannot be anything else."""

        def nothing() -> None: ...
        def other(name: str) -> None: ...
        def number(user_id: int) -> None: ...
        def untyped(user_id): ...  # type: ignore[no-untyped-def]  # that is what is refused
        def method(self: Any, user_id: str) -> None: ...

        for function in (nothing, other, number, untyped, method):
            self.misdeclared(function, "user_id: str")

    def test_wrong_parameters(self) -> None:
        """Each other parameter has a name and a type that JSON can become."""

        class Own:
            pass

        def untyped(user_id: str, x) -> None: ...  # type: ignore[no-untyped-def]
        def many(user_id: str, *x: int) -> None: ...
        def named(user_id: str, **x: int) -> None: ...
        def positional(user_id: str, x: int, /) -> None: ...
        def custom(user_id: str, x: Own) -> None: ...
        def union(user_id: str, x: Point | dict[str, int]) -> None: ...

        def unknown(user_id: str, x: int) -> None: ...

        custom.__annotations__["x"] = Own  # a text would not be found here
        for function in (untyped, many, named, positional, custom, union):
            self.misdeclared(function, "x")
        unknown.__annotations__["x"] = "Nowhere"
        self.misdeclared(unknown, "Nowhere")

    def test_wrong_kind(self) -> None:
        """What is no function, and what gives its result in pieces, is refused."""

        def pieces(user_id: str) -> Iterator[int]:
            yield 1

        async def more_pieces(user_id: str) -> AsyncIterator[int]:
            yield 1

        for function in (pieces, more_pieces, Point):
            self.misdeclared(function)
        self.assertRaises(Misdeclared, command, functools.partial(plain))

    def test_wrong_numbers(self) -> None:
        """Rates, bursts, time limits and names that make no sense are refused."""
        wrong: tuple[dict[str, Any], ...] = (
            {"rate": 0},
            {"rate": 5e-324},
            {"name": 5},
            {"rate": -1},
            {"rate": math.nan},
            {"burst": 0.5},
            {"burst": math.inf},
            {"timeout": 0},
            {"timeout": "5"},
            {"name": ""},
            {"name": "a b"},
            {"name": "x" * 65},
        )
        for options in wrong:
            error = self.assertRaises(Misdeclared, command(**options), plain)
            self.assertIn(next(iter(options)), str(error))
