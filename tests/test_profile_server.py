"""Tests of `scripts.profile_server`: `./just profile`."""

from __future__ import annotations

import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.endtoend import ROOT


def run() -> str:
    """What a short run prints."""
    command = [sys.executable, "-m", "scripts.profile_server", "--seconds=1", "--lines=100"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class ProfileTests(TestCase):
    """`./just profile`."""

    def test_run(self) -> Deferred[None]:
        """It ends by itself, and prints what the server did: messages came, and were read."""

        def printed(text: str) -> None:
            self.assertGreater(int(text.split(" messages a second", 1)[0]), 0)
            for function in ("(take_text)", "(_stored)", "function calls"):
                self.assertIn(function, text)

        return deferToThread(run).addCallback(printed)
