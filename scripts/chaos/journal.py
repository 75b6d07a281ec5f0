"""What one client said and heard, a line each, so that nothing is forgotten with its process."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

Event = Literal["connected", "sent", "stored", "refused", "got"]


@dataclasses.dataclass
class Record:
    """What a journal says."""

    connected: bool = False
    #: What was said: numbers and recipients, in order.
    sent: dict[int, str] = dataclasses.field(default_factory=dict)
    #: Which of that has a receipt, with the message's id, and which was refused for good.
    stored: dict[int, int] = dataclasses.field(default_factory=dict)
    refused: set[int] = dataclasses.field(default_factory=set)
    #: What was heard, in order: the sender and their number.
    got: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    #: The id of the last message that was heard.
    last_id: int | None = None

    @property
    def unsettled(self) -> Iterator[int]:
        """The numbers of what was said and has no answer yet."""
        return (n for n in self.sent if n not in self.stored and n not in self.refused)

    def add(self, line: str) -> None:
        """Take one line."""
        event, *rest = line.split()
        if event == "connected":
            self.connected = True
        elif event == "sent":
            self.sent[int(rest[0])] = rest[1]
        elif event == "stored":
            self.stored[int(rest[0])] = int(rest[1])
        elif event == "refused":
            self.refused.add(int(rest[0]))
        elif event == "got":
            self.last_id = int(rest[0])
            self.got.append((rest[1], int(rest[2])))


class Journal:
    """
    A file that lines are added to.

    A line is with the system when `write` returns, so that it outlives its
    writer, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: Event, *rest: object) -> None:
        """Add a line."""
        os.write(self._file, (" ".join(map(str, (event, *rest))) + "\n").encode())


class Reader:
    """Follows a journal that somebody else writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.record = Record()

    def read(self) -> Self:
        """Take what has come since."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.decode().splitlines():
                self.record.add(line)
        return self
