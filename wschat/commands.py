"""
Commands that clients send to the server (docs/protocol.md, "Server commands").

Pure.  A command is a function of its parameters and who asks; what it
returns is put into the answer as JSON.  An operator's own are added to the
server's (docs/commands.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

import wschat
from wschat import identity, wire

#: An operator's command: its parameters as decoded JSON, and the id of the user who asks.
Command = Callable[[Any, str], Any]


class Commands:
    """The commands a server knows, and the one way to run them."""

    def __init__(
        self,
        connected_users: Callable[[], int],
        added: Mapping[str, Command],
        failed: Callable[[str], None],
    ) -> None:
        """`failed` is told, inside the `except`, the name of an added command that raised."""
        self._connected_users = connected_users
        self._failed = failed
        self._added = added
        self._commands: dict[str, Callable[[str, msgspec.Raw, float], Any]] = {
            "ping": self._ping,
            "echo": self._echo,
            "server_info": self._server_info,
            "user_count": self._user_count,
            "list_commands": self._list_commands,
        }

    def answer(self, message: wire.Message, sender: identity.User, now: float) -> wire.Message:
        """
        The server's answer to a message with the topic `server`.

        The content's signature is required and checked against the sender's
        registered key before the command is done.
        """
        answer = self._answer(message, sender, now)
        return wire.Message(
            wire.SERVER,
            sender.user_id,
            wire.encode_answer(answer),
            wire.format_time(now),
            status=wire.Status.DELIVERED if answer.success else wire.Status.ERROR,
        )

    def _answer(
        self, message: wire.Message, sender: identity.User, now: float
    ) -> wire.CommandAnswer:
        if message.signature is None:
            unsigned = "A command must be signed."
        elif not identity.verify(sender.public_key, message.content.encode(), message.signature):
            unsigned = "The command's signature is not yours."
        else:
            unsigned = ""
        if unsigned:
            return wire.CommandAnswer(False, wire.request_id_of(message.content), error=unsigned)
        try:
            command = wire.decode_command(message.content)
        except wire.Malformed as error:
            return wire.CommandAnswer(False, error=str(error))
        name = command.command
        try:
            if name in self._commands:
                result = self._commands[name](sender.user_id, command.params, now)
            elif name in self._added:
                result = self._added[name](msgspec.json.decode(command.params), sender.user_id)
                msgspec.json.encode(result)  # what cannot be JSON is found out here
            else:
                return wire.CommandAnswer(False, command.request_id, error="Unknown command.")
        except Exception:  # an operator's fault, and no peer's business
            self._failed(name)
            return wire.CommandAnswer(False, command.request_id, error="The command failed.")
        return wire.CommandAnswer(True, command.request_id, result)

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
        names = sorted({*self._commands, *self._added})
        return {"commands": names, "count": len(names)}
