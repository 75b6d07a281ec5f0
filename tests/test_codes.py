"""The numbered tables of error codes and close codes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wschat.codes import DISK_FULL, CloseCode, ErrorCode, Refused

#: Each error code, and whether the same thing may succeed later; milliseconds, where known.
ERRORS = {
    100: ("MALFORMED", False, None),
    101: ("NOT_RESUMED", False, None),
    110: ("UNKNOWN_RECIPIENT", False, None),
    111: ("UNKNOWN_CLIENT_ID", True, None),
    120: ("RATE_LIMITED", True, None),
    121: ("BUSY", True, 1000),
    122: ("RECIPIENT_FULL", True, 60_000),
    123: ("NOT_STORED", True, 1000),
    124: ("OUT_OF_TURN", True, 0),
    130: ("INTERNAL", True, 1000),
}

#: The same of each close code.
CLOSES = {
    1003: ("UNSUPPORTED_DATA", False, None),
    4001: ("SHUTDOWN", True, 1000),
    4002: ("STALE", True, 0),
    4003: ("NEW_KEYS", True, 1000),
    4004: ("INTERNAL", True, 1000),
    4008: ("SLOW", True, 0),
    4012: ("NO_PONG", True, 0),
    4500: ("REPLACED", False, None),
}


class ErrorCodeTests(SynchronousTestCase):
    """Why something was refused."""

    def test_table(self) -> None:
        """A number never changes its meaning: clients in the field know them."""
        found = {int(code): (code.name, code.advice.again, code.advice.wait) for code in ErrorCode}
        self.assertEqual(found, ERRORS)

    def test_reasons(self) -> None:
        """Each code has a line of its own."""
        reasons = [code.advice.reason for code in ErrorCode]
        self.assertEqual([reason for reason in reasons if not reason or "\n" in reason], [])
        self.assertEqual(len(set(reasons)), len(reasons))

    def test_rate_limited(self) -> None:
        """Classic clients know this text by heart."""
        self.assertEqual(
            ErrorCode.RATE_LIMITED.advice.reason, "Rate limit exceeded. Please slow down."
        )

    def test_disk_full(self) -> None:
        """The text says what is wrong, and that the message is not kept."""
        self.assertIn("disk is full", DISK_FULL)
        self.assertIn("not stored", DISK_FULL)


class CloseCodeTests(SynchronousTestCase):
    """Why a WebSocket was closed."""

    def test_table(self) -> None:
        """A number never changes its meaning."""
        found = {int(code): (code.name, code.advice.again, code.advice.wait) for code in CloseCode}
        self.assertEqual(found, CLOSES)

    def test_ranges(self) -> None:
        """1003 is the RFC's; of ours, the number says whether to connect again."""
        ours = [code for code in CloseCode if code != 1003]
        self.assertEqual([code for code in ours if not 4000 <= code <= 4999], [])
        self.assertEqual([code for code in ours if code.advice.again != (code < 4500)], [])

    def test_reasons(self) -> None:
        """Each code has a line of its own that fits a control frame: 125 bytes with the code."""
        reasons = [code.reason for code in CloseCode]
        self.assertEqual([r for r in reasons if not 0 < len(r.encode()) <= 123 or "\n" in r], [])
        self.assertEqual(len(set(reasons)), len(reasons))
        self.assertEqual(reasons, [code.advice.reason for code in CloseCode])


class RefusedTests(SynchronousTestCase):
    """What is not done."""

    def test_from_the_table(self) -> None:
        """Without a text or a wait of its own, a refusal has its code's."""
        error = Refused(ErrorCode.BUSY)
        self.assertEqual(error.code, ErrorCode.BUSY)
        self.assertEqual((error.text, error.wait), (ErrorCode.BUSY.advice.reason, 1000))
        self.assertEqual(str(error), error.text)

    def test_its_own(self) -> None:
        """A text and a wait that are given count; no wait at all is a wait, too."""
        error = Refused(ErrorCode.BUSY, "One at a time.", wait=7)
        self.assertEqual((error.text, error.wait, str(error)), ("One at a time.", 7, error.text))
        self.assertEqual(Refused(ErrorCode.BUSY, wait=0).wait, 0)
