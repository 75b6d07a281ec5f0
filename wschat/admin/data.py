"""`wschat export` and `wschat forget`: what is kept of one user."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from typing import Any, Final

from wschat.admin.context import Context, Failed

#: How long servers that run may take to see that a user is disabled, or gone, in seconds.
_NOTICED: Final = 2.5


def add_parser(commands: Any) -> None:
    """The command's own."""
    parser = commands.add_parser(
        "export", help="print all that is kept of a user, a JSON object a line"
    )
    parser.add_argument("user_id", metavar="USER")
    parser.set_defaults(run=export)
    parser = commands.add_parser(
        "forget", help="remove a user, and every message that they sent or got"
    )
    parser.add_argument("user_id", metavar="USER")
    parser.add_argument("--yes", action="store_true", help="without it nothing is removed")
    parser.set_defaults(run=forget)


def export(context: Context, arguments: Namespace) -> None:
    """Sealed messages come out as they are: the server cannot open them."""
    for item in context.administration().export(arguments.user_id):
        context.say(json.dumps(item, ensure_ascii=False))


def forget(context: Context, arguments: Namespace) -> None:
    """A server that runs closes their connections first, so that nothing more comes in."""
    administration, user_id = context.administration(), arguments.user_id
    administration.user(user_id)
    if not arguments.yes:
        raise Failed(f"Nothing was removed: to remove {user_id} for good, say --yes as well.")
    wait = _NOTICED if context.runs() else 0.0
    administration.disable(user_id, context.now)
    time.sleep(wait)
    removed = administration.remove_messages(user_id)
    administration.remove_user(user_id, context.now)
    time.sleep(wait)
    removed += administration.remove_messages(user_id)
    context.say(f"{user_id} and {removed} messages are gone; backups still have them")
    if not administration.empty_log():
        context.say("the database's log may have them until the server is stopped")
