"""Tests of `wschat.logs`: what of the log becomes a line, and what is in it."""

from __future__ import annotations

import io
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scripts.processes import Server
from wschat import logs


class LinesTests(SynchronousTestCase):
    """Events, as they are logged."""

    def setUp(self) -> None:
        self.file = io.StringIO()
        self.observer = logs.observer(self.file)

    def logger(self, namespace: str) -> Logger:
        return Logger(namespace=namespace, observer=self.observer)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def test_line(self) -> None:
        """When, how bad, whose and what, and the values that the text was made of."""
        self.logger("wschat.security").warn("refused {user_id}: {reason}", user_id="bob", reason=7)
        (line,) = self.lines()
        self.assertRegex(line.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
        expected = {
            "level": "warn",
            "logger": "wschat.security",
            "message": "refused bob: 7",
            "user_id": "bob",
            "reason": 7,
        }
        self.assertEqual(line, expected)

    def test_time(self) -> None:
        """The time is the event's, in UTC."""
        self.observer({"log_namespace": "wschat", "log_time": 1795512600.25, "log_format": "x"})
        (line,) = self.lines()
        self.assertEqual(line["time"], "2026-11-24T09:30:00.250Z")

    def test_one_line(self) -> None:
        """A line stays one, whatever a peer has made of its text."""
        self.logger("wschat").info("said {text}", text='a\n{"level": "info"}\u2028\x1b[2J')
        self.assertEqual(len(self.file.getvalue().splitlines()), 1)
        self.assertEqual(self.lines()[0]["text"], 'a\n{"level": "info"}\u2028\x1b[2J')

    def test_no_field_is_overwritten(self) -> None:
        """A value that is named as one of the line's own fields changes nothing."""
        self.logger("wschat").info("a", logger="x", time="b", traceback="c", isError=1)
        (line,) = self.lines()
        self.assertEqual((line["logger"], line["message"]), ("wschat", "a"))
        self.assertRegex(line["time"], "^2")
        self.assertNotIn("isError", line)

    def test_objects_are_left_out(self) -> None:
        """What is no plain value has its place in the text alone."""
        self.logger("wschat").info("{what}", what=[1, 2])
        (line,) = self.lines()
        self.assertEqual(line["message"], "[1, 2]")
        self.assertNotIn("what", line)

    def test_failure(self) -> None:
        """A fault has its traceback."""
        try:
            raise LookupError("gone")
        except LookupError:
            self.logger("wschat").failure("could not")
        (line,) = self.lines()
        self.assertEqual((line["level"], line["message"]), ("critical", "could not"))
        self.assertIn("LookupError: gone", line["traceback"])

    def test_quiet(self) -> None:
        """Others are heard when they warn, and the server itself from `info` on."""
        for namespace in ("twisted.application", "wschatter", "wschat", "wschat.web"):
            logger = self.logger(namespace)
            logger.debug("debug")
            logger.info("info")
            logger.warn("warn")
        heard = [(line["logger"], line["message"]) for line in self.lines()]
        expected = [
            ("twisted.application", "warn"),
            ("wschatter", "warn"),
            ("wschat", "info"),
            ("wschat", "warn"),
            ("wschat.web", "info"),
            ("wschat.web", "warn"),
        ]
        self.assertEqual(heard, expected)

    def test_standard_output(self) -> None:
        """What twistd calls writes to standard output."""
        self.patch(sys, "stdout", self.file)
        logs.json_lines()({"log_namespace": "wschat", "log_format": "here"})
        self.assertEqual(self.lines()[0]["message"], "here")


class ServerTests(TestCase):
    """A server whose log it is."""

    timeout = 60

    async def test_every_line(self) -> None:
        """From start to stop a server writes nothing but objects."""
        program = ("twistd", "--logger=wschat.logs.json_lines")
        server = await Server.start(reactor, Path(self.mktemp()).absolute(), program=program)
        self.addCleanup(server.process.end)
        url = f"http://localhost:{server.http_port}/health"
        with await deferToThread(urllib.request.urlopen, url) as answer:  # so it runs by now
            self.assertEqual(answer.status, 200)
        await server.process.end()
        said = [json.loads(line)["message"] for line in server.process.lines]
        self.assertEqual([line.partition(" ")[0] for line in said[:2]], ["listening", "listening"])
        self.assertEqual(said[2:], ["stopping", "stopped"])
