"""
Runs server commands: each is begun in its turn, and an operator's is answered when it is done.

An operator's function may take its time, fail or never end; that costs
nobody a message, and the server no more than a few threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wschat import identity, wire
from wschat.commands import Asked, CommandError, Commands, answer_message
from wschat.limits import KeyedLimiter

#: How many of an operator's commands run at once: all together, of one command, and of one user,
#: who may call as many at once unless the command says otherwise.
AT_ONCE: Final = 16
AT_ONCE_OF_COMMAND: Final = 8
AT_ONCE_OF_USER: Final = 5

#: The longest result, in bytes of JSON, and the longest error, in characters.
RESULT_BYTES: Final = 64 * 1024
ERROR_LENGTH: Final = 1000

FAILED: Final = "The command failed."

log = Logger(namespace="wschat.runner")


class Outcome(NamedTuple):
    """What became of a call: its result as JSON, or an error and perhaps a fault for the log."""

    result: bytes | None = None
    error: str = FAILED
    fault: str = ""


#: Has a function called in a thread, under a name; the Deferred fires on the reactor.
InThread = Callable[[str, Callable[[], Outcome]], Deferred[Outcome]]


def daemon_threads(reactor: IReactorFromThreads) -> InThread:
    """A thread for each call; none of them keeps the process from ending."""

    def in_thread(name: str, call: Callable[[], Outcome]) -> Deferred[Outcome]:
        done: Deferred[Outcome] = Deferred()

        def run() -> None:
            reactor.callFromThread(done.callback, call())

        threading.Thread(target=run, name=f"command-{name}", daemon=True).start()
        return done

    return in_thread


@dataclasses.dataclass(eq=False)
class _Run:
    """A command that runs; `limit` is its time limit, and None when it has been answered."""

    asked: Asked
    user_id: str
    answer: Callable[[wire.CommandAnswer], None]
    limit: IDelayedCall | None = None
    work: Deferred[Outcome] | None = None


class Runner:
    """Answers commands."""

    def __init__(
        self,
        commands: Commands,
        clock: IReactorTime,
        wall: Callable[[], float],
        in_thread: InThread,
    ) -> None:
        """`clock` is for limits; `wall` gives seconds since the epoch, for what is written."""
        self._commands = commands
        self._clock = clock
        self._wall = wall
        self._in_thread = in_thread
        self._limiters: dict[str, KeyedLimiter] = {}
        self._running: set[_Run] = set()
        self._stopped = False

    def answer(
        self, message: wire.Message, sender: identity.User, reply: Callable[[wire.Message], None]
    ) -> None:
        """
        Answer a message with the topic `server`, by a call of `reply`.

        That is at once, unless an operator's command has to run for it; and
        never when it does not end before the server stops.
        """
        to = sender.user_id

        def answer(answer: wire.CommandAnswer) -> None:
            reply(answer_message(answer, to, self._wall()))

        found = self._commands.find(message, sender, self._wall())
        if isinstance(found, wire.CommandAnswer):
            answer(found)
        elif not self._stopped:
            try:
                self._admit(found, to)
                arguments = found.command.arguments(found.params)
            except Exception as error:  # types of an operator's own can raise anything
                answer(_answered(found, _failed(error)))
            else:
                self._begin(_Run(found, to, answer), arguments)

    def stop(self) -> None:
        """Begin no other command, and answer none; what runs in a thread is left to itself."""
        self._stopped = True
        for run in list(self._running):
            self._give_up(run)

    def _admit(self, asked: Asked, user_id: str) -> None:
        """Raises `CommandError` when a user has called too often, or when too many run."""
        command = asked.command
        limiter = self._limiters.get(command.name)
        if limiter is None:
            limiter = self._limiters[command.name] = KeyedLimiter(command.rate, command.burst)
        now = self._clock.seconds()
        if not limiter.allow(user_id, now):
            wait = math.ceil(limiter.wait(user_id, now))
            raise CommandError(f"Too often: try again in {wait} s.")
        if sum(run.user_id == user_id for run in self._running) >= AT_ONCE_OF_USER:
            raise CommandError(f"{AT_ONCE_OF_USER} of your commands are running: try again later.")
        same = sum(run.asked.command is command for run in self._running)
        if same >= AT_ONCE_OF_COMMAND or len(self._running) >= AT_ONCE:
            raise CommandError("Too many commands are running: try again later.")

    def _begin(self, run: _Run, arguments: dict[str, Any]) -> None:
        command = run.asked.command
        call = functools.partial(command.function, run.user_id, **arguments)
        self._running.add(run)
        run.limit = self._clock.callLater(command.timeout, self._too_long, run)
        if command.in_thread:
            run.work = maybeDeferred(self._in_thread, command.name, lambda: _call(call))
        else:
            run.work = Deferred.fromCoroutine(_call_here(call))
        run.work.addErrback(_not_begun)
        run.work.addCallback(self._ended, run)

    def _too_long(self, run: _Run) -> None:
        command = run.asked.command
        log.warn("the command {name} took too long", name=command.name)
        self._give_up(run)
        run.answer(run.asked.error("The command took too long."))

    def _give_up(self, run: _Run) -> None:
        """Wait no longer for a command; it counts as running until it has ended in fact."""
        if run.limit is not None and run.limit.active():
            run.limit.cancel()
        run.limit = None
        if run.work is not None and not run.asked.command.in_thread:
            run.work.cancel()

    def _ended(self, outcome: Outcome, run: _Run) -> None:
        self._running.discard(run)
        if run.limit is None:
            return
        run.limit.cancel()
        run.limit = None
        run.answer(_answered(run.asked, outcome))


def _answered(asked: Asked, outcome: Outcome) -> wire.CommandAnswer:
    """What to say of an outcome; a fault is for the log."""
    if outcome.fault:
        name = asked.command.name
        log.error("the command {name} failed: {fault}", name=name, fault=outcome.fault)
    if outcome.result is None:
        return asked.error(outcome.error)
    return asked.answer(outcome.result)


def _call(function: Callable[[], Any]) -> Outcome:
    """Call a function, whatever comes of it."""
    try:
        return _done(function())
    except BaseException as error:  # an operator's fault ends neither server nor thread
        return _failed(error)


async def _call_here(function: Callable[[], Any]) -> Outcome:
    """Call a function on the reactor, and wait for what it returns."""
    try:
        result = function()
        return _done(await result if isinstance(result, Awaitable) else result)
    except BaseException as error:  # … as above
        return _failed(error)


def _not_begun(failure: Failure) -> Outcome:
    return Outcome(fault="no thread could be made for it")


def _done(result: object) -> Outcome:
    try:
        encoded = msgspec.json.encode(result)
        msgspec.json.decode(encoded)  # a `Raw` goes in as it is, whatever it is
    except Exception as error:  # of several kinds, by what is in it
        return Outcome(fault=f"its result cannot be JSON ({type(error).__qualname__})")
    if len(encoded) > RESULT_BYTES:
        fault = f"its result has {len(encoded)} bytes, more than {RESULT_BYTES}"
        return Outcome(error="The command's result is too long.", fault=fault)
    return Outcome(encoded)


def _failed(error: BaseException) -> Outcome:
    """An exception; the log is told where it came from, and not its text, which may be content."""
    with contextlib.suppress(Exception):  # its text is an operator's function, too
        if isinstance(error, CommandError):
            text = str(error)[:ERROR_LENGTH].encode("utf-8", "replace").decode()
            return Outcome(error=text or FAILED)
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without our own
    where = "".join(f", {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return Outcome(fault=type(error).__qualname__ + where)
