"""`wschat token`: to be somebody for a test, and to see why a token is not taken."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, TypeVar

import jwt
from twisted.internet.defer import Deferred, execute

from wschat import config, wire
from wschat.accounts import AccountError, Accounts
from wschat.admin.context import Context, Failed
from wschat.store import Store
from wschat.users import Users

Result = TypeVar("Result")


def add_parser(commands: Any) -> None:
    """The command's own."""
    token = commands.add_parser("token", help="tokens")
    verbs = token.add_subparsers(metavar="COMMAND", required=True)
    parser = verbs.add_parser("create", help="print a token that lets whoever has it be a user")
    parser.add_argument("user_id", metavar="USER")
    parser.add_argument("--lifetime", metavar="DURATION", help="such as 90m (--token-lifetime)")
    parser.set_defaults(run=create)
    parser = verbs.add_parser("inspect", help="say what is in a token, and whether it is good")
    parser.add_argument("token", metavar="TOKEN", help="- reads it from the standard input")
    parser.set_defaults(run=inspect)


def _at_once(function: Callable[..., Result], *args: Any) -> Deferred[Result]:
    """A `store.Executor`."""
    return execute(function, *args)


def _accounts(context: Context, lifetime: float) -> Accounts:
    """The users there are, as the server has them."""
    administration = context.administration()
    users = Users(Store(administration.engine, _at_once, _at_once))
    accounts = Accounts(users, context.secret(), lifetime, registration_open=False)
    accounts.load(administration.users())
    return accounts


def create(context: Context, arguments: Namespace) -> None:
    """Print a token."""
    lifetime = context.config.token_lifetime
    if arguments.lifetime is not None:
        (setting,) = (s for s in config.SETTINGS if s.name == "token-lifetime")
        try:
            lifetime = setting.parse(arguments.lifetime)
        except (ValueError, KeyError):
            raise Failed(f"--lifetime: {arguments.lifetime!r} is not {setting.accepts}") from None
    accounts = _accounts(context, lifetime)
    user = context.administration().user(arguments.user_id)
    token = accounts.token(user, context.now).token
    try:
        accounts.authenticate(token, context.now)
    except AccountError as error:
        raise Failed(f"The server would not take it: {error.text}") from None
    context.say(token)


def inspect(context: Context, arguments: Namespace) -> None:
    """Print what is in a token; it ends with 1 when the server would not take it."""
    from_input = arguments.token == "-"  # noqa: S105  # it is none
    accounts = _accounts(context, context.config.token_lifetime)
    try:
        token = (sys.stdin.readline() if from_input else arguments.token).strip()
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})
    except (jwt.PyJWTError, UnicodeError) as error:
        raise Failed(f"It is no token: {error}") from None
    for name, value in claims.items():
        shown = value
        if name in ("iat", "exp") and isinstance(value, int | float):
            with contextlib.suppress(ValueError, OverflowError):  # no time that there is
                shown = wire.format_time(value)
        context.say(f"{_printable(name)}: {_printable(str(shown))}")
    try:
        accounts.authenticate(token, context.now)
    except AccountError as error:
        raise Failed(error.text) from None
    context.say("The server takes it.")


def _printable(text: str) -> str:
    """What a stranger may have written, such that a terminal shows it and nothing more."""
    return text if text.isprintable() else ascii(text)
