"""One message or note in a full-screen terminal, in lines of any width.  Pure."""

from __future__ import annotations

import dataclasses
import enum
import functools

from wschat.client import console
from wschat.client.cells import fit, width, wrap

#: Part of a line: styles, as prompt_toolkit names them, and texts.
Fragments = list[tuple[str, str]]


class Kind(enum.Enum):
    """What an entry is; its value is the style of its text."""

    HEARD = "class:heard"
    OWN = "class:own"
    #: A message that is not from whom it says.
    ALARM = "class:alarm"
    NOTE = "class:note"
    WARNING = "class:warning"
    ANSWER = "class:answer"


#: What stands in front of a text: `HH:MM:SS`, between spaces; of an answer, a space.
_INDENT = 10
_ANSWER_INDENT = 1


@dataclasses.dataclass(eq=False)
class Entry:
    """
    One entry; all of its texts can be shown as they are.

    `head` says who to whom, with what is known of the message; `mark` what
    became of one's own.
    """

    kind: Kind
    head: str
    text: str
    time: str
    mark: str = ""
    _asked: tuple[int, bool, str] | None = dataclasses.field(default=None, init=False)
    _drawn: list[Fragments] = dataclasses.field(default_factory=list, init=False)

    @functools.cached_property
    def characters(self) -> int:
        """How much of it there is to lay out."""
        return len(self.head) + len(self.text)

    @functools.cached_property
    def day(self) -> str:
        return console.day(self.time)

    @functools.cached_property
    def _clock(self) -> str:
        return console.clock(self.time)

    def lines(self, cells: int, follows: bool) -> list[Fragments]:
        """The entry; without its head when it `follows` one that has the same."""
        asked = (cells, follows, self.mark)
        if asked != self._asked:  # … as it mostly is: all entries are drawn again for each message
            self._asked, self._drawn = asked, self._lines(cells, follows)
        return self._drawn

    def _lines(self, cells: int, follows: bool) -> list[Fragments]:
        text = self._text(max(_INDENT + 2, cells))
        if follows or not self.head:
            return text
        style = "class:alarm" if self.kind is Kind.ALARM else f"class:head {self.kind.value}"
        head = [[(style, line)] for line in wrap(self.head, cells)]
        return head + text

    def _text(self, cells: int) -> list[Fragments]:
        answer = self.kind is Kind.ANSWER
        room = cells - (_ANSWER_INDENT if answer else _INDENT)
        wrapped = wrap(self.text, room)
        lines: list[Fragments] = [
            [
                ("class:time", " " if answer else f" {'' if number else self._clock:8} "),
                (self.kind.value, line),
            ]
            for number, line in enumerate(wrapped)
        ]
        if self.mark:
            mark = f" {self.mark}"
            if width(wrapped[-1]) + width(mark) > room:
                lines.append([("", " " * (_INDENT - 1))])
            lines[-1].append(("class:mark", fit(mark, cells)))
        return lines
