"""Tests of `wschat.client.program`: the environment, arguments, and statuses."""

from __future__ import annotations

import getpass
import io
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import testing as reactors
from twisted.logger import globalLogBeginner
from twisted.trial.unittest import SynchronousTestCase

from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.program import (
    Exit,
    exit_for,
    in_colour,
    interruptible,
    on_terminal,
    prepare,
    seconds,
    usage,
)
from wschat.identity import PrivateKey


class SecondsTests(SynchronousTestCase):
    """Intervals in the environment."""

    def test_accepted(self) -> None:
        """Any number of seconds from a tenth."""
        for text, number in (("60", 60.0), ("0.1", 0.1), ("2.5", 2.5), ("1e3", 1000.0)):
            self.assertEqual(seconds({"BOT_INTERVAL": text}, "BOT_INTERVAL", 30.0), number)

    def test_not_given(self) -> None:
        """Without it, or when it is empty, it is the default."""
        for environ in ({}, {"BOT_INTERVAL": ""}):
            self.assertEqual(seconds(environ, "BOT_INTERVAL", 30.0), 30.0)

    def test_refused(self) -> None:
        """Anything else ends the program with 2 and one line that shows it."""
        for text in ("x", "soon", "0", "-1", "0.09", "inf", "nan", "1 s"):
            output = io.StringIO()
            self.patch(sys, "stderr", output)
            wrong = {"BOT_INTERVAL": text}
            error = self.assertRaises(SystemExit, seconds, wrong, "BOT_INTERVAL", 30.0)
            self.assertEqual(error.code, 2)
            self.assertEqual(output.getvalue().count("\n"), 1)
            self.assertIn(f"BOT_INTERVAL: {text!r}", output.getvalue())


class InterruptibleTests(SynchronousTestCase):
    """A program at the end of its reactor."""

    def test_waits(self) -> None:
        """The end interrupts what runs, and waits until that is left, however it is."""
        interrupted: list[bool] = []
        loop = reactors.MemoryReactor()
        with (
            self.assertRaises(ZeroDivisionError),
            interruptible(loop, lambda: interrupted.append(True)),
        ):
            (trigger,) = loop.triggers["before"]["shutdown"]
            waiting = trigger[0](*trigger[1], **trigger[2])
            self.assertEqual(interrupted, [True])
            self.assertNoResult(waiting)
            raise ZeroDivisionError
        self.successResultOf(waiting)


class PrepareTests(SynchronousTestCase):
    """The environment, and arguments."""

    def setUp(self) -> None:
        self.patch(sys, "stderr", io.StringIO())
        self.patch(sys, "stdout", io.StringIO())
        self.home = str(Path(self.mktemp()).absolute())

    def prepared(self, **environ: str) -> tuple[Any, PrivateKey]:
        return prepare({"WS_USER_ID": "alice", "XDG_CONFIG_HOME": self.home, **environ})

    def written(self, stream: Any) -> str:
        return str(stream.getvalue())

    def test_key_made(self) -> None:
        """A client without a key makes one, and says so, once."""
        _, key = self.prepared()
        self.assertIn("alice.key", self.written(sys.stderr))
        self.patch(sys, "stderr", io.StringIO())
        self.assertEqual(self.prepared()[1].public_key, key.public_key)
        self.assertEqual(self.written(sys.stderr), "")

    def test_key_given(self) -> None:
        """WS_PRIVATE_KEY is taken, and no file is made."""
        key = PrivateKey.generate()
        self.assertEqual(self.prepared(WS_PRIVATE_KEY=key.to_text())[1].public_key, key.public_key)
        self.assertFalse(os.path.exists(self.home))

    def test_insecure(self) -> None:
        """Who checks nothing is told what that means."""
        self.prepared(INSECURE_TLS="true")
        self.assertIn("* INSECURE_TLS", self.written(sys.stderr))

    def test_debug(self) -> None:
        """With DEBUG there is a log on standard error."""
        begun: list[Any] = []
        self.patch(globalLogBeginner, "beginLoggingTo", lambda *a, **k: begun.append(a))
        self.prepared(DEBUG="true")
        self.assertEqual(len(begun), 1)

    def test_passphrase(self) -> None:
        """A key under a passphrase needs it; a person is asked for one that is missing."""
        _, key = self.prepared(WS_KEY_PASSPHRASE="open sesame")
        self.patch(sys, "stdin", io.StringIO())
        self.assertEqual(self.assertRaises(SystemExit, self.prepared).code, 2)
        self.patch(sys.stdin, "isatty", lambda: True)
        self.patch(getpass, "getpass", lambda prompt: "open sesame")
        settings, asked = self.prepared()
        self.assertEqual(asked.public_key, key.public_key)
        self.assertEqual(settings.key_passphrase, "open sesame")  # for the key's replacement
        self.assertNotIn("sesame", repr(settings))

    def test_interrupted(self) -> None:
        """A key that the server may have is pointed at: the login may need it."""
        self.prepared()
        path = Path(self.home) / "wschat" / "keys" / "alice.key"
        path.with_name("alice.key.new").write_text("")
        self.prepared()
        self.assertIn("alice.key.new: a replacement was", self.written(sys.stderr))

    def test_forgetful(self) -> None:
        """Who cannot keep whose key is whose, is told: an attacker could be taken for a friend."""
        key = PrivateKey.generate().to_text()
        self.prepared(WS_PRIVATE_KEY=key)
        self.assertEqual(self.written(sys.stderr), "")
        self.prepared(WS_PRIVATE_KEY=key, XDG_CONFIG_HOME="/dev/null")
        self.assertIn("known_users cannot be written", self.written(sys.stderr))

    def test_wrong(self) -> None:
        """What is wrong ends with 2 and a line, which never shows a key."""
        for environ in (
            {"WS_PRIVATE_KEY": "hush"},
            {"DEBUG": "x"},
            {"XDG_CONFIG_HOME": "/dev/null"},
        ):
            error = self.assertRaises(SystemExit, lambda e=environ: self.prepared(**e))
            self.assertEqual(error.code, 2)
        self.assertNotIn("hush", self.written(sys.stderr))
        self.assertEqual(self.written(sys.stderr).count("\n"), 3)

    def test_usage(self) -> None:
        """--help prints the help and ends with 0; other arguments end with 2."""
        usage([], "HELP")
        for option in ("-h", "--help"):
            self.assertEqual(self.assertRaises(SystemExit, usage, [option], "\nHELP\n").code, 0)
        self.assertEqual(self.written(sys.stdout), "HELP\nHELP\n")
        self.assertEqual(self.assertRaises(SystemExit, usage, ["x\x1b"], "HELP").code, 2)
        self.assertIn(r"x\x1b", self.written(sys.stderr))

    def test_statuses(self) -> None:
        """The numbers are those of docs/clients.md."""
        self.assertEqual([int(status) for status in Exit], [0, 1, 2, 3, 4, 5])
        self.assertEqual(exit_for(RequestRefused("no")), 4)
        self.assertEqual(exit_for(ConnectionProblem("no")), 3)
        self.assertEqual(exit_for(None), 3)

    def test_terminal(self) -> None:
        """There is a person when both streams are terminals, and colours unless not wanted."""
        streams = [io.StringIO(), io.StringIO()]
        for name, stream in zip(("stdin", "stdout"), streams, strict=True):
            self.patch(sys, name, stream)
        self.assertFalse(on_terminal() or in_colour({"TERM": "xterm"}))
        for stream in streams:
            self.patch(stream, "isatty", lambda: True)
        self.assertTrue(on_terminal() and in_colour({"TERM": "xterm"}))
        plain: tuple[dict[str, str], ...] = (
            {"TERM": "dumb"},
            {},
            {"TERM": "xterm", "NO_COLOR": "1"},
        )
        for environ in plain:
            self.assertFalse(in_colour(environ))
        self.patch(sys, "stdin", None)
        self.assertFalse(on_terminal())
