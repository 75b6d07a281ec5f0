"""What a service manager is told: systemd, or another that speaks its protocol (sd_notify(3))."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


class Notifier:
    """Tells the service manager that started this process; nobody where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        #: Whether it wants to hear, again and again, that we are alive.
        self.watched = "WATCHDOG_USEC" in environ

    def tell(self, state: str) -> None:
        """Say something; whoever does not listen does not stop us."""
        if not self._address.startswith(("/", "@")):
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.setblocking(False)
            manager.sendto(state.encode(), address)
