"""`wschat user`: accounts."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from wschat import wire
from wschat.admin.context import Context, Failed
from wschat.identity import PrivateKey, User


def add_parser(commands: Any) -> None:
    """The command's own."""
    user = commands.add_parser("user", help="accounts")
    verbs = user.add_subparsers(metavar="COMMAND", required=True)
    parser = verbs.add_parser("list", help="who has an account, when they were last there")
    parser.set_defaults(run=list_users)
    parser = verbs.add_parser("add", help="make an account")
    parser.add_argument("user_id", metavar="USER")
    parser.add_argument("--username", default="", help="the name to show (the user id)")
    _add_key(parser)
    parser.set_defaults(run=add)
    for name, run, text in (
        ("disable", disable, "let a user log in no more, and close their connections"),
        ("enable", enable, "let a user log in again"),
        ("kick", kick, "end a user's logins: they have to prove again who they are"),
    ):
        parser = verbs.add_parser(name, help=text)
        parser.add_argument("user_id", metavar="USER")
        parser.set_defaults(run=run)
    parser = verbs.add_parser("reset-key", help="give a user who lost their key another one")
    parser.add_argument("user_id", metavar="USER")
    _add_key(parser)
    parser.set_defaults(run=reset_key)


def _add_key(parser: Any) -> None:
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--public-key", metavar="BASE64", help="their Ed25519 key, from them")
    key.add_argument(
        "--make-key", action="store_true", help="make a key, and print it: for bots, or in need"
    )
    parser.add_argument("--x25519-public-key", metavar="BASE64", help="the one to seal with")


def _keys(arguments: Namespace) -> tuple[str, str | None, str | None]:
    """The public keys that a user is to have, Ed25519 and X25519; and the private one made."""
    if not arguments.make_key:
        return arguments.public_key, arguments.x25519_public_key, None
    if arguments.x25519_public_key is not None:
        raise Failed("--make-key makes the X25519 key as well.")
    key = PrivateKey.generate()
    return key.public_key, key.x25519_public_key, key.to_text()


def _say_key(context: Context, private: str | None) -> None:
    """Print a private key that was made: nobody has it but who reads this."""
    if private is not None:
        context.say(f"WS_PRIVATE_KEY={private}")


def list_users(context: Context, arguments: Namespace) -> None:
    """A line for each: id, state, registered, last seen, name."""
    administration = context.administration()
    seen = administration.last_seen()
    for user in administration.users():
        state = "enabled" if user.disabled_at is None else "disabled"
        last = wire.format_time(seen[user.user_id]) if user.user_id in seen else "never"
        registered = wire.format_time(user.created_at)
        context.say(f"{user.user_id}\t{state}\t{registered}\t{last}\t{user.username}")


def add(context: Context, arguments: Namespace) -> None:
    """Make an account."""
    administration = context.administration(make=True)
    public, x25519, private = _keys(arguments)
    name = arguments.username or arguments.user_id
    administration.add(User(arguments.user_id, name, public, x25519, context.now), context.now)
    _say_key(context, private)


def disable(context: Context, arguments: Namespace) -> None:
    """Servers that run close the connections within a second."""
    context.administration().disable(arguments.user_id, context.now)


def enable(context: Context, arguments: Namespace) -> None:
    """Let a user log in again."""
    context.administration().enable(arguments.user_id, context.now)


def kick(context: Context, arguments: Namespace) -> None:
    """Servers that run close the connections within a second."""
    context.administration().sign_out(arguments.user_id, context.now)


def reset_key(context: Context, arguments: Namespace) -> None:
    """Give a user another key."""
    administration = context.administration()
    public, x25519, private = _keys(arguments)
    administration.reset_key(arguments.user_id, public, x25519, context.now)
    _say_key(context, private)
