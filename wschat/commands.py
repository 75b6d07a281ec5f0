"""
Commands that clients send to the server (docs/protocol.md, "Server commands").

Pure.  A command is a function of its parameters and who asks; what it
returns is put into the answer as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

import wschat
from wschat import identity, wire


class Commands:
    """The commands a server knows, and the one way to run them."""

    def __init__(self, connected_users: Callable[[], int]) -> None:
        self._connected_users = connected_users
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
        registered key before the content is read.
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
            return wire.CommandAnswer(False, error="A command must be signed.")
        if not identity.verify(sender.public_key, message.content.encode(), message.signature):
            return wire.CommandAnswer(False, error="The command's signature is not yours.")
        try:
            command = wire.decode_command(message.content)
        except wire.Malformed as error:
            return wire.CommandAnswer(False, error=str(error))
        run = self._commands.get(command.command)
        if run is None:
            return wire.CommandAnswer(False, command.request_id, error="Unknown command.")
        result = run(sender.user_id, command.params, now)
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
        return {"commands": sorted(self._commands), "count": len(self._commands)}
