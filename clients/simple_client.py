"""simple-client: chat on a terminal, in a pipe, or from a script."""

from __future__ import annotations

import sys
from typing import NoReturn

from wschat.client import console
from wschat.client.jsonlines import JsonNarrator
from wschat.client.program import usage
from wschat.client.terminal import run_terminal

_LINES = "\n  ".join(console.HELP)

HELP = f"""
Usage: simple-client [--json]

Reads lines and sends them; prints what comes in.

  {_LINES}

  --json       read and print a JSON object a line (docs/clients.md)

The environment says the rest:

  WS_SERVER_URL    the server (https://localhost:443)
  WS_USER_ID       who to be (the login name)
  WS_USERNAME      the name to show (the user id)
  WS_PRIVATE_KEY   the key to be them with (a file under ~/.config/wschat/keys)
  WS_KEY_PASSPHRASE   what the key file is under (asked for on a terminal)
  WS_ENCRYPTION    required, preferred (the default) or disabled
  WS_SESSION       a name for this client's place in the stream (a new one)
  SSL_CERT_FILE    certificates to trust (the system's)
  INSECURE_TLS     true: do not check who the server is
  AUTO_ANNOUNCE    true: tell everybody when connected
  AUTO_MODE        true: a broadcast every 30 s
  DEBUG            true: a log on standard error

Exit status: 0 done, 1 fault, 2 wrong usage, 3 server unreachable or lost,
4 login refused, 5 something that was sent was not accepted.
"""


def main() -> NoReturn:
    arguments = sys.argv[1:]
    as_json = arguments[:1] == ["--json"]
    usage(arguments[1:] if as_json else arguments, HELP)
    run_terminal(JsonNarrator if as_json else None)


if __name__ == "__main__":
    main()
