"""What the commands of a terminal do, `/users` and the others, whatever the terminal looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import Deferred

from wschat import wire
from wschat.client import console
from wschat.client.accounts import ActiveUsers, ConnectionProblem, RequestRefused
from wschat.client.console import NotUnderstood, Slash
from wschat.client.listener import Counters, Heard, History
from wschat.client.session import QueueFull
from wschat.client.trust import Whois

#: Why a command has no answer; the text of each is for the user.
FAILURES: Final = (NotUnderstood, ConnectionProblem, RequestRefused, QueueFull, ValueError)

#: Users whose changed keys are remembered; past that the oldest are forgotten.
_REMEMBERED: Final = 1000


class _Accounts(Protocol):
    async def active_users(self) -> ActiveUsers: ...


class Asked(Protocol):
    """Who is asked: what commands need of a `Client`."""

    @property
    def accounts(self) -> _Accounts: ...

    @property
    def counters(self) -> Counters: ...

    async def history(self, peer: str, limit: int) -> History: ...

    async def whois(self, user_id: str) -> Whois: ...

    async def fingerprint(self, user_id: str) -> str: ...

    async def trust(self, user_id: str) -> tuple[str, str]: ...

    def command(self, name: str) -> Deferred[wire.CommandAnswer]: ...


class Reply(msgspec.Struct, frozen=True):
    """
    What a command answers, for people and for programs.

    `lines` are the answer, `notes` what there is to say about it, and
    `heard` messages that it shows.  What is from others in the lines and
    notes has been made visible; in `data` it is as it was.
    """

    data: dict[str, Any]
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    heard: list[Heard] | None = None


class Commands:
    """The commands of one user's terminal."""

    def __init__(self, client: Asked, seconds: Callable[[], float]) -> None:
        """`seconds` is a clock that only goes on."""
        self._client = client
        self._seconds = seconds
        self._changes: dict[str, tuple[str, str]] = {}
        self._run = {
            "users": self._users,
            "history": self._history,
            "whois": self._whois,
            "fingerprint": self._fingerprint,
            "trust": self._trust,
            "metrics": self._metrics,
            "ping": self._ping,
            "help": self._help,
        }

    def key_changed(self, user_id: str, old: str, new: str) -> None:
        """To be told what a listener is."""
        self._changes.pop(user_id, None)
        self._changes[user_id] = (old, new)
        if len(self._changes) > _REMEMBERED:
            del self._changes[next(iter(self._changes))]

    async def answer(self, slash: Slash) -> Reply:
        """Do what a command says; `/quit` is the terminal's own.  Raises one of `FAILURES`."""
        run = self._run.get(slash.name)
        if run is None:
            raise NotUnderstood(f"/{slash.name} is not known. More: /help")
        return await run(slash)

    async def _help(self, slash: Slash) -> Reply:
        return Reply({"commands": list(console.COMMANDS)}, console.HELP)

    async def _users(self, slash: Slash) -> Reply:
        active = await self._client.accounts.active_users()
        lines = [
            f"{title}: {console.visible(', '.join(users)) or '-'}"
            for title, users in (("Online", active.online), ("Offline", active.offline))
        ]
        return Reply({"online": active.online, "offline": active.offline}, tuple(lines))

    async def _history(self, slash: Slash) -> Reply:
        peer, count = console.parse_history(slash.rest)
        page = await self._client.history(peer, count)
        note = f"{len(page.messages)} messages" + (", and there are more." if page.more else ".")
        return Reply({"with": peer, "more": page.more}, notes=(note,), heard=page.messages)

    async def _whois(self, slash: Slash) -> Reply:
        who = await self._client.whois(console.parse_user(slash))
        since = f", since {console.visible(who.created_at)}" if who.created_at else ""
        if not who.trusted:
            worth = f"NOT the key you know: /trust {who.user_id}"
        else:
            worth = "the key you know" if who.pinned else "seen for the first time, now known"
        lines = (
            f"{who.user_id} ({console.visible(who.username)}){since}",
            f"fingerprint {console.visible(who.fingerprint)}, {worth}",
        )
        return Reply(msgspec.structs.asdict(who), lines)

    async def _fingerprint(self, slash: Slash) -> Reply:
        user_id = console.parse_user(slash)
        code = await self._client.fingerprint(user_id)
        note = f"{user_id} sees the same with /fingerprint, if nobody is in between."
        data = {"user_id": user_id, "fingerprint": code}
        return Reply(data, (f"{user_id}: {console.visible(code)}",), (note,))

    async def _trust(self, slash: Slash) -> Reply:
        """
        Take a new key, of which the fingerprint is said with the command.

        So nobody takes one by accident, and none but the one they have seen.
        """
        user_id, said = console.parse_trust(slash.rest)
        who = await self._client.whois(user_id)  # … which also tells of a change
        data: dict[str, Any] = {"user_id": user_id, "trusted": who.trusted}
        if who.trusted:
            line = f"{user_id} has the key you know: {console.visible(who.fingerprint)}"
            return Reply({**data, "old": who.fingerprint, "new": who.fingerprint}, (line,))
        old, new = self._changes.get(user_id, ("", who.fingerprint))
        if not said:
            lines = console.key_changed_lines(user_id, old, new)
            return Reply({**data, "old": old, "new": new}, lines)
        if said != "".join(new.split()):
            raise NotUnderstood(f"Not taken: {user_id}'s new key has another fingerprint.")
        old, new = await self._client.trust(user_id)
        if said != "".join(new.split()):
            raise NotUnderstood(f"The key of {user_id} has changed again: see /whois {user_id}")
        self._changes.pop(user_id, None)
        line = f"{user_id} is trusted. Old: {console.visible(old)}  New: {console.visible(new)}"
        return Reply({"user_id": user_id, "trusted": True, "old": old, "new": new}, (line,))

    async def _metrics(self, slash: Slash) -> Reply:
        data = msgspec.structs.asdict(self._client.counters)
        lines = tuple(f"{name.replace('_', ' '):<15} {amount(name, data[name])}" for name in data)
        return Reply(data, lines)

    async def _ping(self, slash: Slash) -> Reply:
        asked = self._seconds()
        answer = await self._client.command("ping")
        took = self._seconds() - asked
        if not answer.success:
            raise RequestRefused(answer.error or "The server does not answer a ping.")
        return Reply({"round_trip": took}, (f"The server answered within {milliseconds(took)}.",))


def milliseconds(seconds: float) -> str:
    """A short time, as people read it."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def size(count: int) -> str:
    """A number of bytes, as people read it."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


def amount(name: str, value: float | None) -> str:
    """One of the `Counters`, as people read it."""
    if value is None:
        return "-"
    if name == "round_trip":
        return milliseconds(value)
    return size(int(value)) if name.startswith("bytes") else str(value)


def metrics_line(counters: Counters) -> str:
    """All that is counted, in one line."""
    data = msgspec.structs.asdict(counters)
    return ", ".join(f"{name.replace('_', ' ')} {amount(name, data[name])}" for name in data)
