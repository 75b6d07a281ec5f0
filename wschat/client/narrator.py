"""Writes down what happens: lines for people; messages on standard output, the rest on error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from wschat import wire
from wschat.client import console
from wschat.client.console import Broadcast, Direct, Meaning, NotUnderstood, Slash
from wschat.client.listener import Heard, Listener, State
from wschat.client.program import note
from wschat.client.settings import Settings
from wschat.client.slash import Reply

#: Messages of one's own whose receipts are shown; past that the oldest are shown none.
_REMEMBERED: Final = 1000


def _receipt(mark: str, said: str) -> None:
    """Say what became of a message of one's own; nothing of one that is not remembered."""
    if said:
        print(f"{mark} {said}", file=sys.stderr, flush=True)


class Narrator(Listener):
    """
    A listener that writes down what happens.

    `write` takes a line for standard output, which is `coloured` when it is a
    terminal.  What a terminal reads it is told as well.
    """

    def __init__(
        self, settings: Settings, write: Callable[[str], None], *, coloured: bool = False
    ) -> None:
        self._settings = settings
        self._write = write
        self._coloured = coloured
        #: Whether the client has been connected at all.
        self.has_been_connected = False
        self._delayed = ""  # why something is not stored, as long as that is so
        self._said: dict[str, str] = {}  # what has no receipt yet, by client id

    # What the client tells.

    def heard(self, heard: Heard) -> None:
        self._write_message(heard)

    def _write_message(self, heard: Heard) -> None:
        line = console.received_line(heard.message, heard.text, heard.authenticity)
        self._write(console.alarming(line, heard.authenticity) if self._coloured else line)

    def refused(self, text: str, client_id: str | None) -> None:
        said = self._said.pop(client_id or "", "")
        note(f"{said}: {text}" if said else text)

    def delayed(self, text: str, client_id: str) -> None:
        if text != self._delayed:  # … once, however often it is tried
            note(f"{text} It is sent again by itself.")
        self._delayed = text

    def stored(self, client_id: str, message_id: int) -> None:
        self._delayed = ""
        said = self._said.get(client_id, "")
        _receipt("✓", said)
        if said.startswith("!"):
            del self._said[client_id]

    def delivered(self, client_id: str, message_id: int) -> None:
        _receipt("✓✓", self._said.pop(client_id, ""))

    def incomplete(self) -> None:
        note("You were away for long: some of what was said is not kept any more.")

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        for line in console.key_changed_lines(user_id, old, new):
            note(line)

    def key_rotated(self, user_id: str, old: str, new: str) -> None:
        note(console.key_rotated_line(user_id, new))

    def changed(self, state: State, error: Exception | None) -> None:
        if state is State.CONNECTED:
            who = f"{self._settings.user_id} on {self._settings.authority}"
            note(f"{'Back' if self.has_been_connected else 'Connected'} as {who}.")
            self.has_been_connected = True
        elif error is not None:
            note(str(error))

    # What a terminal tells.

    def parse(self, line: str) -> Meaning | None:
        """What a line that was read means.  Raises `NotUnderstood`."""
        return console.parse(line)

    def client_id(self, meaning: Meaning) -> str:
        """What a message is to be called; empty: as the client likes."""
        return ""

    def accepted(self, client_id: str, meaning: Direct | Broadcast) -> None:
        """A message is on its way."""
        self._said[client_id] = console.sent_label(recipient(meaning), meaning.text)
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]

    def answered(self, slash: Slash, reply: Reply) -> None:
        """A command has an answer."""
        for line in reply.lines:
            self._write(line)
        for heard in reply.heard or ():
            self._write_message(heard)
        for text in reply.notes:
            note(text)

    def failed(self, meaning: Meaning, text: str) -> None:
        """What was read could not be done."""
        note(text)

    def misread(self, error: NotUnderstood) -> None:
        """What was read means nothing."""
        note(str(error))

    def noted(self, text: str) -> None:
        """The program has something to say for itself."""
        note(text)


def recipient(meaning: Direct | Broadcast) -> str:
    """To whom something is said: a user id, or `broadcast`."""
    return meaning.to if isinstance(meaning, Direct) else wire.BROADCAST
