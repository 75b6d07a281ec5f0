"""The load program (native/load.c), driven by commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from benchmarks.machine import favour, pinned

LOAD_SOURCES: Final = ("load.c", "connection.c", "protocols.c", "histogram.c")


class LoadFailed(Exception):
    """The load program ended, or could not do what it was told."""


class Load:
    """One run of the load against one server; `command` by `command`."""

    def __init__(
        self,
        program: Path,
        cpu: int,
        *,
        protocol: str,
        port: int,
        identities: Path,
        seconds: int,
        pids: Sequence[int],
    ) -> None:
        """It ends after `seconds`; `pids` are those whose processor time it takes."""
        command = [program, protocol, port, identities, seconds, *pids]
        with pinned(cpu):
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        favour(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def command(self, name: str, **arguments: float) -> dict[str, Any]:
        """Run a command, and give its counts.  Raises `LoadFailed`."""
        line = " ".join([name, *(f"{key}={value}" for key, value in arguments.items())])
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101  # they are pipes
        try:
            stdin.write(line + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise LoadFailed(f"the load ended in: {line}")
        counts: dict[str, Any] = json.loads(answer)
        return counts

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
