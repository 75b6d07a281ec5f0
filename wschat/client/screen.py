"""
What a full-screen terminal shows, and where in it the reader is.  Pure.

What it shows comes in lines of `Fragments`, each a style and a text, as
prompt_toolkit has them.  Times are RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wschat import wire
from wschat.client import console
from wschat.client.cells import fit, pad, width
from wschat.client.entries import Entry, Fragments, Kind
from wschat.client.listener import Counters, Heard, State
from wschat.client.slash import milliseconds
from wschat.envelope import Authenticity

#: How many entries are kept, and how many characters of them: each new width is a new lay-out.
KEPT: Final = 2000
KEPT_CHARACTERS: Final = 400_000

#: The longest text that is shown whole, in characters, and the longest name, in cells.
LONGEST: Final = 8000
LONGEST_NAME: Final = 80

#: The dot of each state of the connection.
_STATES: Final = {
    State.CONNECTED: ("class:good", "●"),
    State.CONNECTING: ("class:waiting", "○"),
    State.RECONNECTING: ("class:waiting", "○"),
    State.DISCONNECTED: ("class:bad", "○"),
}


class Screen:
    """One user's view: messages, people, and the state of things."""

    def __init__(self, user_id: str, authority: str) -> None:
        self._user_id = user_id
        self._authority = authority
        self._entries: list[Entry] = []
        self._characters = 0
        self._own: dict[str, Entry] = {}  # one's own messages, by client id
        self._ids: dict[int, Entry] = {}
        self._online: set[str] = set()
        self._known: set[str] = {user_id}
        self._unread: dict[str, int] = {}
        self._rule: Entry | None = None  # what "new" stands above
        self._top: tuple[Entry, int] | None = None  # where the pane begins; None: as low as it can
        self._size = (80, 22)
        self._delayed = ""  # why something is not stored, as long as that is so
        self.state = State.CONNECTING

    # What happens.

    def heard(self, heard: Heard) -> None:
        """A message came, which has not been read until somebody is there."""
        message = heard.message
        entry, before = self._entry(heard), self._ids.get(message.id)
        if before is not None and (before.head, before.text) == (entry.head, entry.text):
            entry = before  # it was among those that were recalled
        else:
            self._came(entry, message)
        if message.sender == self._user_id:
            return
        if not self._unread:
            self._rule = entry
        self._unread[message.sender] = self._unread.get(message.sender, 0) + 1

    def recall(self, messages: Iterable[Heard]) -> None:
        """What was said before goes above all that came since."""
        before, self._entries = self._entries, []
        for heard in sorted(messages, key=lambda heard: heard.message.id):
            mine = heard.message.sender == self._user_id
            if heard.message.id not in self._ids and not (
                mine and heard.message.client_id in self._own
            ):
                self._came(self._entry(heard), heard.message)
        self._entries += before
        self._trim()

    def show(self, messages: Iterable[Heard]) -> None:
        """What was said before, because it was asked for."""
        for heard in messages:
            self._add(self._entry(heard))

    def sent(self, client_id: str, to: str, text: str, now: str) -> None:
        """One's own message is on its way."""
        entry = Entry(Kind.OWN, f"{self._user_id} -> {to}", _shown(text), now, mark="…")
        self._own[client_id] = entry
        self._rule = None
        self._add(entry)
        self.to_the_end()

    def delayed(self, text: str, now: str) -> None:
        """Something could not be stored now; that is said once, however often it is tried."""
        if text != self._delayed:
            self.say(f"{text} It is sent again by itself.", now)
        self._delayed = text

    def stored(self, client_id: str, message_id: int) -> None:
        self._delayed = ""
        entry = self._own.get(client_id)
        if entry is not None:
            entry.mark = "✓"
            self._ids[message_id] = entry

    def delivered(self, client_id: str) -> None:
        entry = self._own.get(client_id)
        if entry is not None:
            entry.mark = "✓✓"

    def refused(self, text: str, client_id: str | None, now: str) -> None:
        entry = self._own.get(client_id or "")
        if entry is not None:
            entry.mark = "✗"
        self.say(text, now, Kind.WARNING)

    def say(self, text: str, now: str, kind: Kind = Kind.NOTE) -> None:
        """The program itself has something to say; also what others wrote into that is shown."""
        self._add(Entry(kind, "", _shown(text), now))

    def people(self, online: Iterable[str], known: Iterable[str] = ()) -> None:
        """Who is there, and who has an account."""
        self._online = set(online)
        self._known |= self._online | set(known)

    def presence_changed(self, joined: Iterable[str], left: Iterable[str]) -> None:
        self.people((self._online | set(joined)) - set(left), left)

    def _came(self, entry: Entry, message: wire.Message) -> None:
        self._ids[message.id] = entry
        self._known.add(message.sender)
        self._add(entry)

    def _entry(self, heard: Heard) -> Entry:
        message = heard.message
        mine = message.sender == self._user_id
        kind = Kind.OWN if mine else Kind.HEARD
        if heard.authenticity is Authenticity.INVALID:
            kind = Kind.ALARM
        route = f"{_shown_name(message.sender)} -> {_shown_name(message.topic)}"
        head = route + console.marks(message, heard.authenticity)
        mark = "✓" if kind is Kind.OWN else ""
        return Entry(kind, head, _shown(heard.text), message.timestamp, mark)

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._characters += entry.characters
        self._trim()

    def _trim(self) -> None:
        surplus = max(0, len(self._entries) - KEPT)
        characters = self._characters - sum(e.characters for e in self._entries[:surplus])
        while characters > KEPT_CHARACTERS and surplus < len(self._entries) - 1:
            characters -= self._entries[surplus].characters
            surplus += 1
        if not surplus:
            return
        gone, self._entries = self._entries[:surplus], self._entries[surplus:]
        self._characters = characters
        lost = set(map(id, gone))
        self._own = {name: entry for name, entry in self._own.items() if id(entry) not in lost}
        self._ids = {number: entry for number, entry in self._ids.items() if id(entry) not in lost}
        if self._top is not None and id(self._top[0]) in lost:
            self._top = (self._entries[0], 0)

    # Where the reader is.

    @property
    def names(self) -> list[str]:
        """Others, those first who are there."""
        others = self._known - {self._user_id}
        return sorted(others, key=lambda name: (name not in self._online, name))

    @property
    def unread(self) -> int:
        """How many messages nobody has seen yet."""
        return sum(self._unread.values())

    @property
    def at_the_end(self) -> bool:
        return self._top is None

    def attention(self) -> None:
        """Somebody is there: what is in view at the end has been read."""
        if self.at_the_end:
            self._unread.clear()

    def to_the_end(self) -> None:
        self._top = None
        self.attention()

    def scroll(self, pages: int) -> None:
        """Go back (below 0) or on, by pages that have a line in common."""
        lines = self._lines(self._size[0])
        height = self._size[1]
        top = max(0, self._first(lines, height) + pages * max(1, height - 1))
        if top + height >= len(lines):
            self.to_the_end()
        else:
            self._keep(lines, top)

    def _keep(self, lines: list[tuple[Entry, Fragments]], top: int) -> None:
        entry = lines[top][0]
        first = next(at for at, line in enumerate(lines) if line[0] is entry)
        self._top = (entry, top - first)

    def _first(self, lines: list[tuple[Entry, Fragments]], height: int) -> int:
        """The line at which the pane begins."""
        last = max(0, len(lines) - height)
        if self._top is None:
            return last
        entry, offset = self._top
        for at, line in enumerate(lines):
            if line[0] is entry:
                return min(at + offset, last)
        return last

    # What is shown.

    def pane(self, cells: int, height: int) -> list[Fragments]:
        """The messages: exactly `height` lines, the last ones at the bottom."""
        self._size = (cells, height)
        lines = self._lines(cells)
        first = self._first(lines, height)
        shown = [fragments for _, fragments in lines[first : first + height]]
        return [[] for _ in range(height - len(shown))] + shown

    def _lines(self, cells: int) -> list[tuple[Entry, Fragments]]:
        """All lines, each with the entry that it is of."""
        lines: list[tuple[Entry, Fragments]] = []
        before: Entry | None = None
        day = ""
        for entry in self._entries:
            if entry.day != day and entry.day:
                day = entry.day
                lines.append((entry, rule(day, cells, "class:rule")))
                before = None
            if entry is self._rule:
                lines.append((entry, rule("new", cells, "class:new")))
                before = None
            follows = before is not None and before.head == entry.head
            lines += [(entry, line) for line in entry.lines(cells, follows)]
            before = entry
        return lines

    def sidebar(self, cells: int, height: int) -> list[Fragments]:
        """Who is there, with what is unread of them, and below who is not."""
        online, away = sorted(self._online), sorted(self._known - self._online)
        lines: list[Fragments] = [[("class:title", pad(f"on line {len(online)}", cells))]]
        lines += [self._person(name, cells, "class:online") for name in online]
        if away:
            lines += [[], [("class:title", pad("away", cells))]]
            lines += [self._person(name, cells, "class:away") for name in away]
        if len(lines) > height:
            lines = lines[: height - 1]
            hidden = len(online) + len(away) - sum(len(line) > 1 for line in lines)
            lines.append([("class:away", fit(f"and {hidden} more", cells))])
        return lines

    def _person(self, name: str, cells: int, style: str) -> Fragments:
        count = self._unread.get(name, 0)
        mark = f" {count}" if count else ""
        dot = "●" if count else " "
        shown = console.visible(name) + (" (you)" if name == self._user_id else "")
        room = cells - 2 - width(mark)
        return [
            ("class:unread", f"{dot} "),
            ("class:unread" if count else style, pad(shown, room)),
            ("class:unread", mark),
        ]

    def status(self, cells: int, counters: Counters, waiting: int) -> Fragments:
        """The line between the messages and what is typed."""
        style, dot = _STATES[self.state]
        trip = "" if counters.round_trip is None else f" {milliseconds(counters.round_trip)}"
        parts = [
            f"{self._user_id} on {self._authority}",
            f"{self.state.value}{trip}",
            f"↑{counters.sent} ↓{counters.received}",
        ]
        parts += [f"{waiting} waiting"] if waiting else []
        parts += [f"{counters.reconnects} times back"] if counters.reconnects else []
        parts += [f"{counters.refused} refused"] if counters.refused else []
        left = " │ ".join(parts)
        if self.at_the_end:
            right = f"{self.unread} new " if self.unread else "/help "
        else:
            right = f"{self.unread} new below, " if self.unread else ""
            right += "End: to the last "
        room = max(0, cells - 3 - width(right))
        return [
            (f"class:status {style}", f" {dot} "),
            ("class:status", pad(left, room)),
            ("class:status class:unread" if self.unread else "class:status", fit(right, cells - 3)),
        ]


def _shown(text: str | None) -> str:
    """As much of a text as is shown, as it can be."""
    if text is None or len(text) <= LONGEST:
        return console.shown(text)
    return f"{console.visible(text[:LONGEST])}… ({len(text) - LONGEST} more characters)"


def _shown_name(name: str) -> str:
    return fit(console.visible_name(name[:LONGEST_NAME]), LONGEST_NAME)


def rule(text: str, cells: int, style: str) -> Fragments:
    """A line across, with a text in it."""
    middle = f" {text} " if text else ""
    left = "─" * 2
    return [(style, fit(left + middle + "─" * max(0, cells - 2 - width(middle)), cells))]
