"""Tests of `wschat.client.cells`: text in the cells of a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.client import cells as module
from wschat.client.cells import fit, pad, width, wrap

WIDE = "\u65e5\u672c\u8a9e"  # three characters, six cells


class CellTests(SynchronousTestCase):
    """What has room, and how a text is broken."""

    def test_fit(self) -> None:
        """What has no room is cut off, with an ellipsis; a wide character is never cut in two."""
        for text, cells, fitting in (
            ("hello", 5, "hello"),
            ("hello", 4, "hel…"),
            ("hello", 1, "…"),
            ("hello", 0, ""),
            (WIDE, 6, WIDE),
            (WIDE, 5, "\u65e5\u672c…"),
            (WIDE, 4, "\u65e5…"),
        ):
            self.assertEqual(fit(text, cells), fitting)

    def test_pad(self) -> None:
        """What is padded has its cells, all of them and no more."""
        for text in ("", "hello", WIDE):
            for cells in range(8):
                self.assertEqual(width(pad(text, cells)), cells)

    def test_wrap(self) -> None:
        """Lines are broken at a space if there is one, which is then gone, else anywhere."""
        for text, lines in (
            ("", [""]),
            ("hello", ["hello"]),
            ("one two", ["one", "two"]),
            ("one two three", ["one", "two", "three"]),
            ("a b c d e", ["a b c", "d e"]),
            ("abcdefghij", ["abcde", "fghij"]),
            (WIDE, ["\u65e5\u672c", "\u8a9e"]),
        ):
            self.assertEqual(wrap(text, 5), lines)

    @given(st.text(st.sampled_from("a b\u65e5\u0301"), max_size=30), st.integers(2, 8))
    def test_any(self, text: str, cells: int) -> None:
        """Whatever the text, nothing but spaces is lost, and no line is too long."""
        lines = wrap(text, cells)
        self.assertEqual("".join(lines).replace(" ", ""), text.replace(" ", ""))
        self.assertLessEqual(max(map(width, lines)), cells)

    def test_linear(self) -> None:
        """A text is measured once or twice, however many lines it makes."""
        measured = 0

        def counting(text: str) -> int:
            nonlocal measured
            measured += len(text)
            return width(text)

        self.patch(module, "width", counting)
        for text in ("x" * 10_000, "ab " * 3000, WIDE * 1000):
            for room in (1, 2, 7, 80):
                measured = 0
                wrap(text, room)
                self.assertLess(measured, 3 * len(text))

    def test_narrow(self) -> None:
        """Where there is no room at all there is a character a line."""
        self.assertEqual(wrap("abc", 0), ["a", "b", "c"])
