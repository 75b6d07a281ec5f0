"""Tests of `wschat.client.layout`: keys, into an application whose input is a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit.application import Application, create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import ColorDepth, DummyOutput
from twisted.trial.unittest import SynchronousTestCase

from tests.client.test_screen import TIME, said
from wschat.client.layout import MAX_LINE, application
from wschat.client.screen import Screen


class _Output(DummyOutput):
    """A terminal that shows nothing."""

    size = Size(rows=24, columns=80)

    def get_size(self) -> Size:
        return self.size

    def get_default_color_depth(self) -> ColorDepth:
        return ColorDepth.DEPTH_4_BIT


class LayoutTests(SynchronousTestCase):
    """The application, with a screen and nobody behind it; Ctrl+C ends it."""

    def setUp(self) -> None:
        self.screen = Screen("alice", "localhost:8443")
        self.screen.people(["alice", "bob", "bot"])
        self.typed: list[str] = []
        self.too_long: list[int] = []
        self.kept = False

    def run_with(self, keys: str, *, coloured: bool = True, columns: int = 80) -> Application[None]:
        """Type keys, and then Ctrl+C."""
        made: list[Application[None]] = []  # … which ends itself

        def typed(buffer: Buffer) -> bool:
            self.typed.append(buffer.text)
            return self.kept

        output = _Output()
        output.size = Size(rows=24, columns=columns)
        with create_pipe_input() as pipe, create_app_session(input=pipe, output=output):
            one = application(
                self.screen,
                typed=typed,
                too_long=self.too_long.append,
                status=lambda width: [("", "x" * width)],
                end=lambda: made.pop().exit(),
                coloured=coloured,
            )
            made.append(one)
            pipe.send_text(keys + "\x03")
            asyncio.run(one.run_async(handle_sigint=False))
        return one

    def test_lines(self) -> None:
        """A line is told of and gone; one that is kept can be mended."""
        self.run_with("@bob hi\r!all\r")
        self.assertEqual(self.typed, ["@bob hi", "!all"])
        self.kept = True
        self.run_with("hello\r you\r")
        self.assertEqual(self.typed[2:], ["hello", "hello you"])

    def test_tab(self) -> None:
        """Tab takes the first name or command that fits, and then the next."""
        self.run_with("@bo\thi\r@bo\t\thi\r/he\t\r/\t\x15nothing\t\r")
        self.assertEqual(self.typed, ["@bob hi", "@bot hi", "/help", "nothing"])

    def test_paste(self) -> None:
        """A line takes what is pasted, but not more than can be said."""
        paste = "\x1b[200~{}\x1b[201~"
        self.run_with(paste.format("@bob two\r\nlines") + paste.format("x" * MAX_LINE) + "!\r")
        self.assertEqual(self.typed, ["@bob two\nlines!"])
        self.assertEqual(self.too_long, [MAX_LINE])

    def test_colours(self) -> None:
        """Without colours there are none."""
        self.assertIs(self.run_with("", coloured=False).color_depth, ColorDepth.DEPTH_1_BIT)
        self.assertIsNot(self.run_with("").color_depth, ColorDepth.DEPTH_1_BIT)

    def test_attention(self) -> None:
        """Any key says that somebody is there."""
        self.screen.heard(said(1))
        self.run_with("x")
        self.assertEqual(self.screen.unread, 0)

    def scrolled(self, keys: str) -> bool:
        """Whether the screen is at its end after keys."""
        self.screen.to_the_end()
        for number in range(30):
            self.screen.say(f"n{number}", TIME)
        self.run_with(keys)
        return not self.screen.at_the_end

    def test_scroll(self) -> None:
        """PageUp and PageDown scroll, End goes to the end; Ctrl+L draws all again."""
        up, down, end = "\x1b[5~", "\x1b[6~", "\x1b[F"
        scrolls: tuple[tuple[str, Callable[[bool], None]], ...] = (
            (up, self.assertTrue),
            (up + down, self.assertFalse),
            (up + up + end + "\x0c", self.assertFalse),
        )
        for keys, check in scrolls:
            check(self.scrolled(keys))

    def test_wide(self) -> None:
        """It can be drawn in any size."""
        for columns in (20, 80, 200):
            self.run_with("/", columns=columns)
