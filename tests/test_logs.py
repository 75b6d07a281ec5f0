"""Logs as they are written."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from wschat import logs


class JSONTests(SynchronousTestCase):
    """One object a line."""

    def setUp(self) -> None:
        self.file = io.StringIO()
        self.log = Logger(namespace="wschat.x", observer=logs.json_observer(self.file))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def test_line(self) -> None:
        """When, how grave, from where, the text, and the event's own values."""
        self.log.warn("{count} of {user_id}", count=3, user_id="alice", ratio=0.5, there=True)
        (line,) = self.lines()
        self.assertRegex(line.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "namespace": "wschat.x",
                "message": "3 of alice",
                "count": 3,
                "user_id": "alice",
                "ratio": 0.5,
                "there": True,
            },
        )

    def test_objects(self) -> None:
        """What is no plain value is in the text alone, as it is there."""
        self.log.info("from {peer}", peer=Path("/x"), more=[1, 2], log_source=self)
        (line,) = self.lines()
        self.assertEqual(line["message"], "from /x")
        self.assertEqual(line.keys(), {"time", "level", "namespace", "message"})

    def test_quiet(self) -> None:
        """Of what is not the server's own, only what is a warning, or worse, is written."""
        others = Logger(namespace="twisted.x", observer=logs.json_observer(self.file))
        others.info("Starting")
        others.warn("Failing")
        self.log.debug("How it works")
        self.log.info("What happened")
        self.assertEqual([line["message"] for line in self.lines()], ["Failing", "What happened"])

    def test_own_names(self) -> None:
        """An event's values do not take the place of what every line has."""
        self.log.info("x", message="y", namespace="z", time=1)
        (line,) = self.lines()
        self.assertEqual((line["message"], line["namespace"]), ("x", "wschat.x"))

    def test_failure(self) -> None:
        """A failure has its traceback, in the same line."""
        try:
            raise ValueError("too much")
        except ValueError:
            self.log.failure("it failed")
        (line,) = self.lines()
        self.assertEqual((line["level"], line["message"]), ("critical", "it failed"))
        self.assertIn("ValueError: too much", line["traceback"])

    def test_without_anything(self) -> None:
        """What Twisted's older log says has no level, and perhaps no time."""
        line = json.loads(logs.json_line({"log_format": "hello"}))
        self.assertEqual((line["message"], line["level"]), ("hello", "info"))

    @given(st.text(), st.text())
    def test_any(self, text: str, value: str) -> None:
        """Whatever is said, it is one line, and read back it is the same."""
        line = logs.json_line({"log_format": "{value}", "value": value + text, "log_time": 0.0})
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(json.loads(line)["value"], value + text)


class FileTests(SynchronousTestCase):
    """Where twistd's log goes when each line of it is an object."""

    def test_standard_output(self) -> None:
        """In the foreground, unless told otherwise, it is the standard output."""
        for options in (None, {"nodaemon": True}, {"nodaemon": True, "logfile": "-"}):
            self.assertIs(logs.log_file(options), sys.stdout)

    def test_file(self) -> None:
        """`--logfile` is where it goes."""
        path = self.mktemp()
        file = logs.log_file({"nodaemon": True, "logfile": path})
        logs.json_observer(file)({"log_format": "hello", "log_namespace": "wschat"})
        self.assertEqual(json.loads(Path(path).read_text())["message"], "hello")


class SecurityTests(SynchronousTestCase):
    """The file of security events."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.publisher = LogPublisher(logs.security_observer(self.path))
        self.security = Logger(namespace="wschat.security", observer=self.publisher)

    def messages(self, path: Path | None = None) -> list[str]:
        return [
            json.loads(line)["message"] for line in (path or self.path).read_text().splitlines()
        ]

    def test_only_security(self) -> None:
        """Nothing else is in it."""
        self.security.info("login: alice", user_id="alice")
        Logger(namespace="wschat.service", observer=self.publisher).info("something else")
        self.assertEqual(self.messages(), ["login: alice"])

    def test_private(self) -> None:
        """It is its owner's alone, from the start."""
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_appended(self) -> None:
        """What was there stays."""
        self.security.info("one")
        LogPublisher(logs.security_observer(self.path))({"log_format": "none of it"})
        self.security.info("two")
        self.assertEqual(self.messages(), ["one", "two"])

    def test_moved_away(self) -> None:
        """Whoever moves it away, to keep it from growing, finds a new one with what comes."""
        self.security.info("one")
        moved = self.path.with_suffix(".1")
        os.rename(self.path, moved)
        self.security.info("two")
        self.assertEqual((self.messages(moved), self.messages()), (["one"], ["two"]))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_no_such_directory(self) -> None:
        """A file that cannot be written is found out at once."""
        self.assertRaises(OSError, logs.security_observer, self.path / "x")
