"""`./just coverage`: a report, and status 1 when a branch of a pure module was not taken."""

from __future__ import annotations

import io
import sys
from typing import Final

from coverage import Coverage

#: Modules without I/O: nothing is in the way of testing every branch.
PURE: Final = (
    "wschat/codes.py",
    "wschat/commands.py",
    "wschat/config.py",
    "wschat/hub.py",
    "wschat/identity.py",
    "wschat/limits.py",
    "wschat/presence.py",
    "wschat/receipts.py",
    "wschat/timeouts.py",
    "wschat/v1.py",
    "wschat/values.py",
    "wschat/wire.py",
    "wschat/client/cells.py",
    "wschat/client/completion.py",
    "wschat/client/console.py",
    "wschat/client/entries.py",
    "wschat/client/outgoing.py",
    "wschat/client/session.py",
    "wschat/client/slash.py",
)

#: What all modules together must reach, in per cent of lines and branches.
ALL: Final = 90.0


def main() -> int:
    coverage = Coverage()
    coverage.load()
    total = coverage.report(show_missing=True, skip_covered=True)
    status = 0
    if total < ALL:
        print(f"All modules: {total:.1f} %, not {ALL:.0f} %")
        status = 1
    for module in PURE:
        covered = coverage.report(include=[f"*/{module}"], file=io.StringIO())
        if covered < 100:
            print(f"{module}: {covered:.1f} %, not 100 %")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
