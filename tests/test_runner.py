"""Tests of `wschat.runner`: where commands run, for how long, how many, and what is answered."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support import make_user
from wschat import runner
from wschat.commands import Command, CommandError, Commands, command
from wschat.identity import PrivateKey, User
from wschat.runner import Outcome, Runner, daemon_threads
from wschat.wire import Message

reactor: Any = _reactor

WALL = 1_000_000_000.0

#: What no log may have in it.
WORD = "quokka"


class Asking:
    """Users who ask a runner, and the answers that each has had."""

    def __init__(self, commands: list[Command[..., Any]], clock: Any, in_thread: Any) -> None:
        known = Commands(lambda: 0)
        for added in commands:
            known.add(added)
        self.runner = Runner(known, clock, lambda: WALL, in_thread)
        self.answers: list[Any] = []
        self.heard: Deferred[None] | None = None
        self._users: dict[str, tuple[User, PrivateKey]] = {}

    def ask(self, name: str, params: object = None, user_id: str = "alice") -> None:
        """Ask for a command, under its name as the request id."""
        if user_id not in self._users:
            key = PrivateKey.generate()
            self._users[user_id] = make_user(user_id, key), key
        user, key = self._users[user_id]
        content = json.dumps({"command": name, "params": params, "request_id": name})
        signature = key.sign(content.encode())
        message = Message(user_id, "server", content, "2026-11-22T10:00:00Z", signature)
        self.runner.answer(message, user, self._answered)

    def _answered(self, message: Message) -> None:
        self.answers.append((message.topic, json.loads(message.content)))
        if self.heard is not None:
            heard, self.heard = self.heard, None
            heard.callback(None)

    def said(self) -> list[Any]:
        """The results and errors of the answers since the last time."""
        answers, self.answers = self.answers, []
        return [answer["result"] if answer["success"] else answer["error"] for _, answer in answers]

    def next_answer(self) -> Deferred[None]:
        """Fires with the next answer."""
        self.heard = Deferred()
        return self.heard


class _Log:
    """What is logged while a test runs."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._events: list[LogEvent] = []
        observer: Any = self._events.append
        globalLogPublisher.addObserver(observer)
        test.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self) -> list[str]:
        return [
            formatEvent(event)
            for event in self._events
            if event.get("log_namespace") == "wschat.runner"
        ]


@command(burst=100)
def double(user_id: str, number: int) -> Any:
    """An operator's command."""
    return {"by": user_id, "double": 2 * number}


@command(burst=100, timeout=3)
def wait(user_id: str) -> str:
    """A command that a test ends when it likes."""
    return "waited"


@command(burst=100)
def fail(user_id: str, text: str) -> None:
    """A command with a fault."""
    raise ValueError(f"{text} is no number")


@command(burst=100)
def leave(user_id: str) -> None:
    """A command that would end the process."""
    raise SystemExit(3)


@command(burst=100)
def unspeakable(user_id: str) -> Any:
    """A command whose result cannot be JSON."""
    return {WORD: object()}


@command(burst=100)
def repeat(user_id: str, length: int) -> str:
    """A command with a long result."""
    return "x" * length


@command(blocking=False, burst=100)
def here(user_id: str) -> str:
    """A command on the reactor."""
    return threading.current_thread().name


@command(rate=0.5, burst=2)
def seldom(user_id: str) -> str:
    """A command that is not for every day."""
    return "done"


@command
def plain(user_id: str) -> str:
    """A command with nothing but defaults."""
    return "plain"


@dataclasses.dataclass
class Size:
    """A type of an operator's own, which fails for some values."""

    number: int

    def __post_init__(self) -> None:
        self.part = 1 / self.number


@command(burst=100)
def measured(user_id: str, size: Size) -> float:
    """A command with a parameter of that."""
    return size.part


class _MuteError(CommandError):
    def __str__(self) -> str:
        raise ValueError(WORD)


@command(burst=100)
def mute(user_id: str) -> None:
    """A command whose error cannot be said."""
    raise _MuteError


@command(burst=100)
def raw(user_id: str, text: str) -> msgspec.Raw:
    """A command that has its result from elsewhere."""
    return msgspec.Raw(text.encode())


class RunnerTests(SynchronousTestCase):
    """A runner whose threads are the test's own."""

    def setUp(self) -> None:
        self.log = _Log(self)
        self.clock = Clock()
        #: The calls that a thread has been asked for.
        self.threads: list[tuple[str, Callable[[], Outcome], Deferred[Outcome]]] = []
        self.slept: list[Deferred[str]] = []
        slept = self.slept

        @command(burst=100, timeout=2)
        async def sleep(user_id: str) -> str:
            """A coroutine that waits for what a test has."""
            slept.append(Deferred())
            return f"{user_id} {await slept[-1]}"

        commands: list[Command[..., Any]] = [
            double,
            wait,
            fail,
            leave,
            unspeakable,
            repeat,
            here,
            seldom,
            sleep,
            plain,
            measured,
            mute,
            raw,
        ]
        others = [command(name=f"wait-{number}", burst=100)(wait.function) for number in range(4)]
        self.asking = Asking([*commands, *others], self.clock, self.in_thread)
        self.ask, self.said = self.asking.ask, self.asking.said

    def in_thread(self, name: str, call: Callable[[], Outcome]) -> Deferred[Outcome]:
        done: Deferred[Outcome] = Deferred()
        self.threads.append((name, call, done))
        return done

    def go(self) -> None:
        """Let the threads do what they were asked for."""
        threads, self.threads = self.threads, []
        for _, call, done in threads:
            done.callback(call())

    def test_own(self) -> None:
        """The server's own commands are answered at once."""
        self.ask("ping")
        self.assertEqual(self.said(), [{"message": "pong", "timestamp": int(WALL)}])

    def test_in_thread(self) -> None:
        """A plain function is called in a thread, and answered to who asked when it is done."""
        self.ask("double", {"number": 4}, "bob")
        self.assertEqual(([name for name, _, _ in self.threads], self.said()), (["double"], []))
        self.go()
        result = {"by": "bob", "double": 8}
        answer = {"success": True, "request_id": "double", "result": result}
        self.assertEqual(self.asking.answers, [("bob", answer)])

    def test_later_ones_first(self) -> None:
        """Who waits for one command gets the answers of others meanwhile."""
        self.ask("wait")
        self.ask("ping")
        self.ask("here")
        self.assertEqual(len(self.said()), 2)
        self.go()
        self.assertEqual(self.said(), ["waited"])

    def test_on_reactor(self) -> None:
        """What does not block, and what is a coroutine, runs on the reactor."""
        self.ask("here")
        self.assertEqual(self.said(), [threading.current_thread().name])
        self.ask("sleep")
        self.assertEqual(self.said(), [])
        self.slept[0].callback("slept")
        self.assertEqual((self.said(), self.threads), (["alice slept"], []))

    def test_wrong_parameters(self) -> None:
        """Parameters that do not fit are an error, and nothing is begun."""
        self.ask("double", {"number": "4"})
        (error,) = self.said()
        self.assertIn("$.number", error)
        self.assertEqual(self.threads, [])

    def test_command_error(self) -> None:
        """What a command says of itself is the answer's error, as far as it can be said."""
        texts = iter(("No such city.", "", "\ud800", "y" * 5000))

        @command(burst=100)
        def refuse(user_id: str) -> None:
            raise CommandError(next(texts))

        asking = Asking([refuse], self.clock, self.in_thread)
        for _ in range(4):
            asking.ask("refuse")
            self.go()
        self.assertEqual(asking.said(), ["No such city.", runner.FAILED, "?", "y" * 1000])
        self.assertEqual(self.log.lines(), [])

    def test_fault(self) -> None:
        """A fault is one neutral line for its user, and for the log where it was, not its text."""
        self.ask("fail", {"text": WORD})
        self.ask("leave")
        self.go()
        self.assertEqual(self.said(), [runner.FAILED] * 2)
        first, second = self.log.lines()
        self.assertRegex(first, r"command fail failed: ValueError, \S+test_runner.py:\d+ in fail$")
        self.assertIn("command leave failed: SystemExit", second)
        self.assertNotIn(WORD, first)

    def test_fault_on_reactor(self) -> None:
        """So it is on the reactor."""
        self.ask("sleep")
        self.slept[0].errback(ValueError(WORD))
        self.assertEqual(self.said(), [runner.FAILED])
        (line,) = self.log.lines()
        self.assertIn("command sleep failed: ValueError", line)
        self.assertNotIn(WORD, line)

    def test_result_that_is_no_json(self) -> None:
        """A result that cannot be JSON is the operator's fault."""
        self.ask("unspeakable")
        self.go()
        self.assertEqual(self.said(), [runner.FAILED])
        (line,) = self.log.lines()
        self.assertIn("cannot be JSON", line)
        self.assertNotIn(WORD, line)

    def test_long_result(self) -> None:
        """A result has at most 64 KiB, quotes included."""
        for length in (65534, 65535):
            self.ask("repeat", {"length": length})
            self.go()
        self.assertEqual(self.said(), ["x" * 65534, "The command's result is too long."])
        (line,) = self.log.lines()
        self.assertIn("65537", line)

    def test_time_limit(self) -> None:
        """What takes too long is answered for; what it comes to later is nobody's."""
        self.ask("wait")
        self.clock.advance(2.9)
        self.assertEqual(self.said(), [])
        self.clock.advance(0.2)
        self.assertEqual(self.said(), ["The command took too long."])
        self.go()
        self.assertEqual(self.said(), [])
        self.assertEqual(self.log.lines(), ["the command wait took too long"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_limit_of_coroutine(self) -> None:
        """A coroutine is cancelled at its limit, so that it can clean up."""
        self.ask("sleep")
        self.clock.advance(2)
        self.assertEqual(self.said(), ["The command took too long."])
        self.assertTrue(self.slept[0].called)
        for _ in range(runner.AT_ONCE_OF_USER):  # it has left its place
            self.ask("wait")
        self.assertEqual(self.said(), [])

    def test_in_time(self) -> None:
        """What has been answered has no time limit any more."""
        self.ask("wait")
        self.go()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_own_rate(self) -> None:
        """Each user has a command's own rate; beyond it they are told how long to wait."""
        for _ in range(3):
            self.ask("seldom")
            self.go()
        self.assertEqual(self.said(), ["done", "done", "Too often: try again in 2 s."])
        self.ask("seldom", user_id="bob")
        self.ask("double", {"number": 1})
        self.go()
        self.assertEqual(len([s for s in self.said() if "Too" not in str(s)]), 2)
        self.clock.advance(2)
        self.ask("seldom")
        self.go()
        self.assertEqual(self.said(), ["done"])

    def test_at_once_of_user(self) -> None:
        """Five of one user run at once, whichever they are."""
        for name in ("wait", "wait-0", "wait-1", "sleep", "wait-3", "wait-2"):
            self.ask(name)
        (error,) = self.said()
        self.assertIn("5 of your commands", error)
        self.ask("wait-2", user_id="bob")
        self.assertEqual(self.said(), [])
        self.go()
        self.said()
        self.ask("wait-2")
        self.go()
        self.assertEqual(self.said(), ["waited"])

    def test_default_burst(self) -> None:
        """As many as a user may call at once, unless a command says otherwise, run at once."""
        for _ in range(int(plain.burst)):
            self.ask("plain")
        self.go()
        self.assertEqual(self.said(), ["plain"] * int(plain.burst))

    def test_fault_in_a_parameter(self) -> None:
        """A type of an operator's own that fails is a fault like any; its text is nobody's."""
        self.ask("measured", {"size": {"number": 0}})
        self.assertEqual(self.said(), [runner.FAILED])
        (line,) = self.log.lines()
        self.assertIn("the command measured failed: ZeroDivisionError", line)
        self.assertNotIn("division by zero", line)
        self.ask("measured", {"size": {"number": 4}})
        self.go()
        self.assertEqual(self.said(), [0.25])

    def test_error_without_text(self) -> None:
        """An error whose text is a fault itself is a fault, and takes no place for good."""
        for _ in range(runner.AT_ONCE_OF_COMMAND + 1):
            self.ask("mute")
            self.go()
            self.assertEqual(self.said(), [runner.FAILED])
        self.assertTrue(all(WORD not in line for line in self.log.lines()))

    def test_raw(self) -> None:
        """JSON that was made elsewhere is a result, and what is none is a fault."""
        self.ask("raw", {"text": '{"a": [1]}'})
        self.go()
        self.assertEqual(self.said(), [{"a": [1]}])
        self.ask("raw", {"text": '{"a": '})
        self.go()
        self.assertEqual(self.said(), [runner.FAILED])

    def test_at_once_of_command(self) -> None:
        """Eight of one command run at once; others have their places."""
        for number in range(9):
            self.ask("wait", user_id=f"user-{number}")
        (error,) = self.said()
        self.assertIn("Too many", error)
        self.ask("wait-0", user_id="user-8")
        self.assertEqual((self.said(), len(self.threads)), ([], 9))

    def test_at_once(self) -> None:
        """Sixteen run at once; those that took too long count until they have ended."""
        for number in range(16):
            self.ask(f"wait-{number // 4}", user_id=f"user-{number}")
        self.clock.advance(10)
        self.said()
        self.ask("double", {"number": 1})
        (error,) = self.said()
        self.assertIn("Too many", error)
        self.ask("ping")
        self.assertEqual(len(self.said()), 1)
        self.go()
        self.ask("double", {"number": 1})
        self.go()
        self.assertEqual(self.said(), [{"by": "alice", "double": 2}])

    def test_no_thread(self) -> None:
        """When no thread can be made the command fails, and leaves its place."""

        def none(name: str, call: Callable[[], Outcome]) -> Deferred[Outcome]:
            raise RuntimeError("can't start new thread")

        asking = Asking([wait], self.clock, none)
        for _ in range(runner.AT_ONCE_OF_USER + 1):
            asking.ask("wait")
        self.assertEqual(asking.said(), [runner.FAILED] * 6)
        self.assertIn("no thread", self.log.lines()[0])

    def test_stop(self) -> None:
        """After its end nothing is begun or answered, and no time limit is left."""
        self.ask("wait")
        self.ask("sleep")
        self.asking.runner.stop()
        self.assertTrue(self.slept[0].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.ask("double", {"number": 1})
        self.go()
        self.assertEqual((self.said(), self.log.lines()), ([], []))


class ThreadTests(TestCase):
    """Real threads."""

    timeout = 180

    def setUp(self) -> None:
        self.log = _Log(self)

    def join(self, name: str) -> None:
        for thread in threading.enumerate():
            if thread.name == name:
                thread.join(20)

    async def test_threads(self) -> None:
        """Functions block in daemon threads of their own, side by side."""
        together = threading.Barrier(3, timeout=20)
        daemons: list[bool] = []

        @command
        def meet(user_id: str) -> str:
            daemons.append(threading.current_thread().daemon)
            together.wait()
            return threading.current_thread().name

        asking = Asking([meet], reactor, daemon_threads(reactor))
        for _ in range(3):
            asking.ask("meet")
        while len(asking.answers) < 3:
            await asking.next_answer()
        self.assertEqual((asking.said(), daemons), (["command-meet"] * 3, [True] * 3))

    async def test_stuck(self) -> None:
        """One that hangs is answered for; another runs meanwhile, and the end waits for neither."""
        end = threading.Event()
        self.addCleanup(self.join, "command-hang")
        self.addCleanup(end.set)

        @command(timeout=0.05)
        def hang(user_id: str) -> None:
            end.wait(20)

        asking = Asking([hang, double], reactor, daemon_threads(reactor))
        asking.ask("hang")
        await asking.next_answer()
        self.assertEqual(asking.said(), ["The command took too long."])
        asking.ask("double", {"number": 3})
        await asking.next_answer()
        self.assertEqual(asking.said(), [{"by": "alice", "double": 6}])
        asking.runner.stop()
