"""`twistd wschat`: what it can be told, and the service that it runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.python import usage

from wschat import config, logs, sources
from wschat.server import Server


class Options(usage.Options):
    """The options of `twistd wschat`; each can also be given in the environment."""

    synopsis = "[options]"
    longdesc = (
        "A messaging server: durable, signed, over WebSocket.  Every option "
        "--some-option can also be given as WSCHAT_SOME_OPTION in the environment."
    )
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        [setting.name, None, None, f"{setting.help} ({setting.accepts}){_default}"]
        for setting in config.SETTINGS
        for _default in ([f" [default: {setting.default}]"] if setting.default else [""])
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the options; a wrong one ends the program with one line and status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"wschat: {error}")

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"unexpected: {' '.join(arguments)}")

    def postOptions(self) -> None:
        try:
            self.config = sources.load(self, os.environ)
        except config.ConfigError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> Service:
    """What `twistd wschat` runs."""
    from twisted.internet import reactor  # noqa: PLC0415  # twistd installs it first

    # Twisted's own reactors keep time by the wall: set back, it would stop every timer.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    server = Server(options.config, reactor, time.time, lambda: sources.load(options, os.environ))
    if options.config.log_format == "json":
        server.log_file = logs.log_file(options.parent)
    return server
