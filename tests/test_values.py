"""What the text of a setting means, kind by kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wschat import values

ONE_OF = values.one_of("open", "closed")

#: A number that no float holds, and no calendar.
ENDLESS = "9" * 400

#: Texts that are right, in every unit and spelling, and what they mean.
RIGHT: dict[Callable[[str], Any], dict[str, Any]] = {
    values.duration: {
        "1": 1.0,
        "90": 90.0,
        "90s": 90.0,
        "90m": 5400.0,
        "1.5h": 5400.0,
        "2 D": 172800.0,
        "24H": 86400.0,
    },
    values.size: {
        "1024": 1024,
        "1KiB": 1024,
        "64 kib": 65536,
        "1.5MiB": 1572864,
        "1GiB": 1073741824,
        "1073741824": 1073741824,
    },
    values.size_or_none: {"": None, "64KiB": 65536},
    values.rate: {"0.5": 0.5, "1e3": 1000.0, " 10 ": 10.0},
    values.at_least_one: {"1": 1.0, "1.5": 1.5, "2.5": 2.5, "365": 365.0},
    values.count: {"1": 1, "65000": 65000, "100000": 100000},
    ONE_OF: {"open": "open", "closed": "closed"},
    values.secret: {"s3cret": "s3cret", " ": " ", "": None},
    values.origins: {
        "": frozenset(),
        " , ": frozenset(),
        "*": frozenset({"*"}),
        "null": frozenset({"null"}),
        "https://Chat.Example/": frozenset({"https://chat.example"}),
        "https://a:8443, http://[::1]:80,": frozenset({"https://a:8443", "http://[::1]:80"}),
        "moz-extension://x-1": frozenset({"moz-extension://x-1"}),
    },
    values.modules: {"": (), "one, two.three,": ("one", "two.three")},
    values.users: {"": frozenset(), "alice, bob,": frozenset({"alice", "bob"})},
    values.directory: {"/srv/wschat": Path("/srv/wschat"), "here": Path("here")},
    values.path: {"": None, "/log": Path("/log"), "~/log": Path.home() / "log"},
    values.split_address: {
        ":443": ("", 443),
        "0.0.0.0:80": ("0.0.0.0", 80),
        "chat.example:65535": ("chat.example", 65535),
        "[::1]:0": ("::1", 0),
        "[::ffff:1.2.3.4]:1": ("::ffff:1.2.3.4", 1),
        ":65536": None,
        "443": None,
        "tcp:443:interface=x": None,
        ":": None,
    },
    values.listener: {
        text: text
        for text in (
            *(":443", ":0", ":65535", "0.0.0.0:443", "[::1]:443", "chat.example:443", "a-b_c:1"),
            *("tcp:443", "ssl:443:interface=::", "fasttls:443", "unix:/run/x"),
            "systemd:domain=INET:index=0",
        )
    },
    values.http_listener: {":80": ":80", "": "", "none": "", "tcp:80": "tcp:80"},
    values.database: {
        text: text
        for text in (
            *("", "/srv/chat.db", "sqlite:///x.db"),
            *("postgresql+psycopg://u:p@h/d", "postgresql+psycopg:///d"),
            *("postgresql+psycopg://u:p%40/?q@[::1]:5432/d?host=/run&user=a@b",),
        )
    },
}

#: Texts that are wrong; `~no-such-user-here` is the home of somebody who does not exist.
WRONG: dict[Callable[[str], Any], tuple[str, ...]] = {
    values.duration: (
        *("", "0", "0.5", "-1h", "h", "1w", "1h30m", "1e5", "a day", "nan"),
        *(ENDLESS, f"{ENDLESS}d", "99999999d"),
    ),
    values.size: (
        *("", "0", "1", "1023", "1025MiB", "1GiB1", "2GiB", "-1", "64K", "1.5.5KiB", "1MB"),
        *("1073741825", "1e6", ENDLESS, f"{ENDLESS}GiB"),
    ),
    values.size_or_none: ("0", "1023", "1MB", "none"),
    values.rate: (
        *("", "0", "-1", "-0.0", "nan", "NaN", "inf", "1e999", "ten", "1/s"),
        ENDLESS,
    ),
    values.at_least_one: ("", "0", "0.5", "0.99", "-1", "nan", "inf", "x", "30d"),
    values.count: ("", "0", "-1", "1.5", "10.0", "1e3", "many", "9" * 5000),
    ONE_OF: ("", "OPEN", "yes", "open "),
    values.origins: (
        *("chat.example", "https://", "https:///", "https://a/b", "https://a?b", "https://a#b"),
        *("https://u@a", "https://a b", "https://a,chat.example", "1://a"),
    ),
    values.modules: ("a-b", "a..b", "a b", "1"),
    values.users: ("a b", "broadcast", "x" * 65, "alice;bob", ".."),
    values.directory: ("", "~no-such-user-here/x"),
    values.path: ("~no-such-user-here/x",),
    values.listener: (
        *("", "8443", "localhost", "localhost:", "host :1", ":65536", ":123456", "::1:443"),
        *("[::1]", "[::1:443", "[zz]:1", ":443\n", "tcp:", "1tcp:x"),
        # a host with a port that is none, or a URL, is no endpoint, though it has a colon
        *("localhost:99999", "localhost:https", "https://localhost:443"),
    ),
    values.http_listener: ("8080", "NONE", "off", ":99999"),
    values.database: (
        *("postgresql://host/db", "postgresql+asyncpg://host/db", "sqlite://x", "://"),
        *("mysql+x://h/d", ":memory:", "sqlite:///:memory:"),
        # What would be a host, in the error that it is not there, may be part of a password.
        *("postgresql+psycopg://u:p@q@h/d", "postgresql+psycopg://u:p@q:r@h/d"),
        *("postgresql+psycopg://u@h:port/d", "postgresql+psycopg://u@[::1/d"),
    ),
}


def outcome(parse: Callable[[str], Any], text: str) -> object:
    """What a text becomes, or the class of what is raised for it."""
    try:
        return parse(text)
    except Exception as error:
        return type(error)


class ValueTests(SynchronousTestCase):
    """Right and wrong texts."""

    def test_right(self) -> None:
        """Every spelling means what it says."""
        found = {parse: {text: outcome(parse, text) for text in RIGHT[parse]} for parse in RIGHT}
        self.assertEqual(found, RIGHT)

    def test_wrong(self) -> None:
        """What is none of its kind is a `ValueError`, and nothing else is raised."""
        taken = [
            (parse.__name__, text, outcome(parse, text))
            for parse, texts in WRONG.items()
            for text in texts
            if outcome(parse, text) is not ValueError
        ]
        self.assertEqual(taken, [])
