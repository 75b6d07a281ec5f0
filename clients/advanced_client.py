"""advanced-client: a whole screen on a terminal; an automated client without one."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from wschat.client.automated import run_automated
from wschat.client.fullscreen import run_full_screen
from wschat.client.program import on_terminal, usage

HELP = """
Usage: advanced-client

On a terminal, a whole screen: messages, people, and a line to type in, which
takes what simple-client does. PageUp and PageDown scroll, Tab completes names
and commands, /help shows them, Ctrl+C or /quit ends.

Without a terminal, an automated client: it prints what comes in, says what it
has done at an interval, and answers {"type": "ping"} and {"type": "metrics"}.
It takes lines as simple-client does, and stays when they end, until SIGTERM.

  WS_METRICS_INTERVAL  seconds between two lines of metrics (30)
  AUTO_MODE            true: a broadcast every 30 s

and what simple-client reads: WS_SERVER_URL, WS_USER_ID, WS_PRIVATE_KEY, ...
"""


def main() -> NoReturn:
    usage(sys.argv[1:], HELP)
    if on_terminal() and os.environ.get("TERM", "dumb") != "dumb":
        run_full_screen(os.environ)
    run_automated(os.environ)


if __name__ == "__main__":
    main()
