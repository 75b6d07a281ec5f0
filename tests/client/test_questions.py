"""Tests of `wschat.client.questions`: who waits for which answer."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.client.test_session_v1 import V1Tests
from tests.support import NOW
from wschat import v1, wire
from wschat.client.accounts import ConnectionProblem, RequestRefused
from wschat.client.questions import Questions
from wschat.client.session_events import Answered, Told


class QuestionsTests(V1Tests):
    """Questions over a session whose frames are looked at."""

    def setUp(self) -> None:
        super().setUp()
        self.sent: list[dict[str, Any]] = []
        self.questions = Questions(self.session, self.flush, lambda: NOW)

    def flush(self) -> None:
        self.sent += self.frames()

    def connect(self) -> None:
        self.open()
        self.questions.opened()
        self.flush()

    def lose(self) -> None:
        self.session.lost()
        self.sent.clear()
        self.questions.lost(ConnectionProblem("gone"))

    def ask(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.questions.ask(v1.AskPresence(False, ["bob"])))

    def answer(self) -> None:
        """Answer what was asked last."""
        request_id = self.sent[-1]["request_id"]
        self.questions.answered(Told(request_id, v1.Presence([], {}, request_id=request_id)))

    def test_question(self) -> None:
        """A question is sent, and its answer goes to who asked; then nobody waits for it."""
        self.connect()
        asked = self.ask()
        self.assertEqual([frame["type"] for frame in self.sent], ["presence"])
        self.assertEqual(len(self.questions), 1)
        self.assertNoResult(asked)
        self.assertEqual(self.session.unsettled, 0)
        self.answer()
        self.assertIsInstance(self.successResultOf(asked), v1.Presence)
        self.assertEqual(len(self.questions), 0)

    def test_before_the_first_connection(self) -> None:
        """It waits for the first connection; later ones are not waited for."""
        asked = self.ask()
        self.assertEqual(len(self.questions), 0)
        self.connect()
        self.assertEqual(len(self.sent), 1)
        self.answer()
        self.successResultOf(asked)
        self.lose()
        self.ask()
        self.assertEqual(len(self.questions), 1)

    def test_refused(self) -> None:
        """An error is raised where it was asked."""
        self.connect()
        asked = self.ask()
        request_id = self.sent[-1]["request_id"]
        error = v1.Error(100, "no", again=False, request_id=request_id)
        self.questions.answered(Told(request_id, error))
        self.assertEqual(str(self.failureResultOf(asked, RequestRefused).value), "no")

    def test_lost(self) -> None:
        """A connection that is lost takes its questions with it; they are not asked again."""
        self.connect()
        asked, command = self.ask(), self.questions.command("ping")
        self.lose()
        self.failureResultOf(asked, ConnectionProblem)
        self.failureResultOf(command, ConnectionProblem)
        self.assertEqual(len(self.questions), 0)
        self.connect()
        self.assertEqual(self.sent, [])

    def test_command(self) -> None:
        """A command's answer goes to who gave it; one that nobody waits for, to nobody."""
        self.connect()
        command = self.questions.command("ping")
        request_id = json.loads(self.sent[-1]["body"]["content"])["request_id"]
        answer = wire.decode_answer(json.dumps({"request_id": request_id, "success": True}))
        self.questions.answered(Answered(request_id, answer))
        self.assertIs(self.successResultOf(command), answer)
        self.questions.answered(Answered(request_id, answer))

    def test_given_up(self) -> None:
        """What nobody waits for any more, and was not sent, is not sent."""
        command = self.questions.command("ping")
        command.addErrback(lambda failure: None)
        command.cancel()
        self.assertEqual(len(self.questions), 0)
        self.connect()
        self.assertEqual(self.sent, [])
