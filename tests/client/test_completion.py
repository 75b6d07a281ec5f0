"""Tests of `wschat.client.completion`: how a line could go on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wschat.client.completion import complete
from wschat.client.console import COMMANDS

PEOPLE = ("bob", "alice", "bot")


class CompleteTests(SynchronousTestCase):
    """Lines with the cursor at their end."""

    def completed(self, line: str) -> list[str]:
        """What the line could be then."""
        return [line[: found.start] + found.text for found in complete(line, PEOPLE)]

    def test_names(self) -> None:
        """Behind an @ come names, in the order in which they are given, and a space."""
        self.assertEqual(self.completed("@"), ["@bob ", "@alice ", "@bot "])
        self.assertEqual(self.completed("@b"), ["@bob ", "@bot "])
        self.assertEqual(self.completed("@x"), [])

    def test_commands(self) -> None:
        """Behind a / come commands, with what they do, and a space if more is to come."""
        self.assertEqual(self.completed("/h"), ["/history ", "/help"])
        self.assertEqual(len(self.completed("/")), len(COMMANDS))
        self.assertEqual(complete("/pi", PEOPLE)[0].meaning, COMMANDS["ping"][1])

    def test_arguments(self) -> None:
        """Behind a command that is about a user come names."""
        for name in ("whois", "fingerprint", "trust", "history"):
            self.assertEqual(self.completed(f"/{name} b"), [f"/{name} bob", f"/{name} bot"])
            self.assertEqual(self.completed(f"/{name} @a"), [f"/{name} @alice"])

    def test_nothing(self) -> None:
        """Nothing else is completed: not texts, and not what only looks like a command."""
        for line in ("", "b", "@bob b", "!b", "/users b", "/whois bob b", "whois b", "/x b"):
            self.assertEqual(self.completed(line), [], line)
