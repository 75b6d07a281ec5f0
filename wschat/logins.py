"""How long sessions may stay: until their token ends, or another that they have been given."""

from __future__ import annotations

from collections.abc import Callable

from wschat import v1, wire
from wschat.accounts import AccountError, Accounts
from wschat.codes import CloseCode, ErrorCode, Refused
from wschat.hub import Session
from wschat.lifetimes import Lifetimes


class Logins:
    """The sessions, and the tokens by which they are there."""

    def __init__(self, accounts: Accounts, wall: Callable[[], float]) -> None:
        """`wall` gives seconds since the epoch."""
        self._accounts = accounts
        self._wall = wall
        self._lifetimes: Lifetimes[Session] = Lifetimes()

    def __len__(self) -> int:
        return len(self._lifetimes)

    def opened(self, session: Session, until: float) -> None:
        """A session may stay until then, in seconds since the epoch."""
        self._lifetimes.stay(session, until, self._wall())

    def closed(self, session: Session) -> None:
        """A session is over; one that nobody knows is no error."""
        self._lifetimes.leave(session)

    def renew(self, session: Session, token: str) -> None:
        """Let a session stay as long as another token.  Raises `Refused`: it is not theirs."""
        now = self._wall()
        try:
            user, until = self._accounts.check(token, now)
        except AccountError as error:
            raise Refused(ErrorCode.BAD_TOKEN, error.text) from None
        if user.user_id != session.user_id:
            raise Refused(ErrorCode.BAD_TOKEN)
        self._lifetimes.stay(session, until, now)
        session.send(v1.frame(v1.Renewed(wire.format_time(until))))

    def look(self) -> None:
        """Tell those whose token ends soon, and let go of those whose token has ended."""
        due = self._lifetimes.due(self._wall())
        for session, until in due.ending:
            if session.dialect is v1.DIALECT and session.name is not None:
                session.send(v1.frame(v1.TokenEnding(wire.format_time(until))))
        for session in due.ended:
            if session.dialect is not v1.DIALECT:  # whose program may not show why it was closed
                ended = Refused(ErrorCode.BAD_TOKEN, "Your token has ended: log in again.")
                session.send(session.dialect.refusal(session.user_id, ended, self._wall()))
            session.close(CloseCode.TOKEN_ENDED)
