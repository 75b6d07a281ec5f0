"""
Commands that clients send to the server (docs/protocol.md, "Server commands").

Pure.  The server's own are answered here, at once.  An operator's are
functions that `command` declares (docs/commands.md); here they are found and
their parameters read, and `wschat.runner` runs them.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import typing
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, overload

import msgspec

import wschat
from wschat import identity, wire

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: The default of parameters that were not sent: the function has one of its own.
_ABSENT: Final = object()

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: The lowest rate, calls a second: one in some three hours.
_LEAST_RATE: Final = 0.0001

_GENERATORS: Final = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class CommandError(Exception):
    """A command cannot be done; the text is the answer's `error`, for who asked to read."""


class Misdeclared(TypeError):
    """A function cannot be a command; the text is one line."""


class Command(Generic[Arguments, Result]):
    """
    An operator's command: a function, and how it may be used.

    `rate` and `burst` are each user's, calls a second and at once; `timeout`
    is in seconds.  Called, it is the function and nothing more.
    """

    def __init__(
        self,
        function: Callable[Arguments, Result],
        *,
        name: str | None,
        rate: float,
        burst: float,
        timeout: float,
        blocking: bool,
    ) -> None:
        """Raises `Misdeclared`."""
        functools.update_wrapper(self, function)
        self.function = function
        self.name = _name(function) if name is None else name
        self.rate = rate
        self.burst = burst
        self.timeout = timeout
        self._check_numbers()
        #: Whether it runs in a thread of its own; otherwise it runs on the reactor.
        self.in_thread = blocking and not inspect.iscoroutinefunction(function)
        self._parameters = _parameters_of(function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self.function(*args, **kwargs)

    def _check_numbers(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise Misdeclared(f"{self.name!r}: a command's name is 1 to 64 of A-Za-z0-9._-")
        for what, number, least in (
            ("rate", self.rate, _LEAST_RATE),
            ("burst", self.burst, 1.0),
            ("timeout", self.timeout, 0.0),
        ):
            good = isinstance(number, int | float) and math.isfinite(number) and number >= least
            if not (good and number > 0):
                accepted = f"a number from {least:g}" if least else "a number above 0"
                raise Misdeclared(f"{self.name}: {what}={number!r} is not {accepted}")

    def arguments(self, params: msgspec.Raw) -> dict[str, Any]:
        """What the function takes besides who asks, from JSON.  Raises `CommandError`."""
        try:
            given = wire.decode(self._parameters, b"{}" if bytes(params) == b"null" else params)
        except wire.Malformed as error:
            raise CommandError(str(error)) from None
        return {
            name: value
            for name in given.__struct_fields__
            if (value := getattr(given, name)) is not _ABSENT
        }


def _name(function: object) -> str:
    return str(getattr(function, "__name__", function))


def _parameters_of(function: Callable[..., Any]) -> msgspec.json.Decoder[msgspec.Struct]:
    """A decoder for what a function takes after `user_id`.  Raises `Misdeclared`."""
    name = _name(function)
    if not inspect.isfunction(function):
        raise Misdeclared(f"{name}: a command is a function")
    if any(generates(function) for generates in _GENERATORS):
        raise Misdeclared(f"{name}: a command cannot be a generator")
    try:
        types = typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # whatever the text of an annotation comes to
        raise Misdeclared(f"{name}: a type cannot be read: {error}") from None
    parameters = list(inspect.signature(function).parameters.values())
    first = parameters.pop(0).name if parameters else None
    if first != "user_id" or types.get(first) is not str:
        raise Misdeclared(f"{name}: its first parameter must be user_id: str")
    fields: list[Any] = []
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise Misdeclared(f"{name}: {parameter} cannot be given by its name")
        if parameter.name not in types:
            raise Misdeclared(f"{name}: its parameter {parameter.name} has no type")
        field = parameter.name, types[parameter.name]
        try:
            msgspec.json.schema(field[1])  # refuses what no JSON can become
            msgspec.json.Decoder(field[1])
        except Exception as error:  # of several kinds, by what is wrong with the type
            why = str(error).splitlines()[0]
            if "custom types" in why:
                why = "no JSON can become that"
            raise Misdeclared(f"{name}: the type of its parameter {field[0]}: {why}") from None
        fields.append(field if parameter.default is parameter.empty else (*field, _ABSENT))
    return msgspec.json.Decoder(
        msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    )


@overload
def command(function: Callable[Arguments, Result], /) -> Command[Arguments, Result]: ...


@overload
def command(
    *,
    name: str | None = ...,
    rate: float = ...,
    burst: float = ...,
    timeout: float = ...,
    blocking: bool = ...,
) -> Callable[[Callable[Arguments, Result]], Command[Arguments, Result]]: ...


def command(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    rate: float = 1,
    burst: float = 5,
    timeout: float = 5,
    blocking: bool = True,
) -> Any:
    """
    Declare a function to be a server command, as `@command` or `@command(…)`.

    Its first parameter is `user_id: str`; the others are what clients send,
    by their names and types.  It is called `name`, else as the function is.
    Each user may call it `rate` times a second, and `burst` times at once.
    After `timeout` seconds who asked is told that it took too long.  A plain
    function runs in a thread of its own unless it is not `blocking`; a
    coroutine function runs on the reactor.

    Raises `Misdeclared`.
    """

    def declare(function: Callable[..., Any]) -> Command[..., Any]:
        return Command(
            function, name=name, rate=rate, burst=burst, timeout=timeout, blocking=blocking
        )

    return declare if function is None else declare(function)


class Asked(NamedTuple):
    """An operator's command, yet to be run, with its parameters as they were sent."""

    command: Command[..., Any]
    params: msgspec.Raw
    request_id: str | int | None

    def answer(self, result: bytes) -> wire.CommandAnswer:
        """That it was done, with its result as JSON."""
        return wire.CommandAnswer(True, self.request_id, msgspec.Raw(result))

    def error(self, text: str) -> wire.CommandAnswer:
        """That it was not done, and why not."""
        return wire.CommandAnswer(False, self.request_id, error=text)


def answer_message(answer: wire.CommandAnswer, to: str, now: float) -> wire.Message:
    """An answer, as it goes to who asked."""
    return wire.Message(
        wire.SERVER,
        to,
        wire.encode_answer(answer),
        wire.format_time(now),
        status=wire.Status.DELIVERED if answer.success else wire.Status.ERROR,
    )


class Commands:
    """The commands that a server knows: its own, and the operator's."""

    def __init__(self, connected_users: Callable[[], int]) -> None:
        self._connected_users = connected_users
        self._added: dict[str, Command[..., Any]] = {}
        self._own: dict[str, Callable[[str, msgspec.Raw, float], Any]] = {
            "ping": self._ping,
            "echo": self._echo,
            "server_info": self._server_info,
            "user_count": self._user_count,
            "list_commands": self._list_commands,
        }

    def add(self, command: Command[..., Any]) -> None:
        """Add an operator's, once however often.  Raises `ValueError` for a name that is taken."""
        if command.name in self._own or self._added.get(command.name, command) is not command:
            raise ValueError(f"there is a command {command.name} already")
        self._added[command.name] = command

    def find(
        self, message: wire.Message, sender: identity.User, now: float
    ) -> Asked | wire.CommandAnswer:
        """
        The answer to a message with the topic `server`, or what is to be run for one.

        The content's signature is required and checked against the sender's
        registered key before anything is done.
        """
        if message.signature is None:
            unsigned = "A command must be signed."
        elif not identity.verify(sender.public_key, message.content.encode(), message.signature):
            unsigned = "The command's signature is not yours."
        else:
            unsigned = ""
        if unsigned:
            return wire.CommandAnswer(False, wire.request_id_of(message.content), error=unsigned)
        try:
            asked = wire.decode_command(message.content)
        except wire.Malformed as error:
            return wire.CommandAnswer(False, error=str(error))
        if asked.command in self._own:
            result = self._own[asked.command](sender.user_id, asked.params, now)
            return wire.CommandAnswer(True, asked.request_id, result)
        if asked.command in self._added:
            return Asked(self._added[asked.command], asked.params, asked.request_id)
        return wire.CommandAnswer(False, asked.request_id, error="Unknown command.")

    def _ping(self, sender: str, params: msgspec.Raw, now: float) -> Any:
        return {"message": "pong", "timestamp": int(now)}

    def _echo(self, sender: str, params: msgspec.Raw, now: float) -> Any:
        return {"echo": params, "sender": sender}

    def _server_info(self, sender: str, params: msgspec.Raw, now: float) -> Any:
        return {
            "version": wschat.__version__,
            "connected_users": self._connected_users(),
            "timestamp": int(now),
        }

    def _user_count(self, sender: str, params: msgspec.Raw, now: float) -> Any:
        return {"count": self._connected_users(), "timestamp": int(now)}

    def _list_commands(self, sender: str, params: msgspec.Raw, now: float) -> Any:
        names = sorted({*self._own, *self._added})
        return {"commands": names, "count": len(names)}
