"""simple-client: chat on a terminal, or in a pipe."""

from __future__ import annotations

import sys
from typing import NoReturn

from wschat.client.terminal import run_terminal, usage

HELP = """
Usage: simple-client

Reads lines and sends them; prints what comes in.

  @USER TEXT   say something to one user
  !TEXT        say something to everybody
  /users       who is there
  /history USER [N]   the last N messages to and from USER (20); ! for those to everybody
  /fingerprint USER   a code to compare with USER, aloud: it is the same for both
  /trust USER         believe in the new keys that the server has for USER
  /help        these lines
  /quit        send what is left, and end

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
    usage(sys.argv[1:], HELP)
    run_terminal()


if __name__ == "__main__":
    main()
