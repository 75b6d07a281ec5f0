"""The documents: what can be compared with the code is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from twisted.trial.unittest import SynchronousTestCase

from wschat import v1, wire
from wschat.client.terminal import Exit
from wschat.codes import Advice, CloseCode, ErrorCode

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def _examples(text: str) -> list[str]:
    """The lines of JSON in a document."""
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def _again(advice: Advice) -> str:
    """The column that says whether to try again."""
    if not advice.again:
        return "no"
    return "yes" if advice.wait is None else f"yes, after {advice.wait} ms"


def _with_defaults(encoded: bytes, example: Any) -> Any:
    """A frame as it was written by the code, with the keys that it leaves out for their default."""
    written = json.loads(encoded)
    if "watch" in example:
        written.setdefault("watch", True)
    return written


class ProtocolTests(SynchronousTestCase):
    """docs/protocol.md."""

    def test_error_codes(self) -> None:
        """Each error code is in the table, with its reason and what to do."""
        rows = re.findall(r"^\| (\d{3}) \| (.*?) \| (.*?) \|$", self._section("Error codes"), re.M)
        expected = [(str(int(c)), c.advice.reason, _again(c.advice)) for c in ErrorCode]
        self.assertEqual(rows, expected)

    def test_close_codes(self) -> None:
        """Each code of ours is in the table, with its reason and whether to come back."""
        rows = re.findall(r"^\| (\d{4}) \| (.*?) \| (.*?) \|$", self._section("Close codes"), re.M)
        self.assertEqual(rows[0], ("1003", "text frames only", "after a repair"))
        ours = [code for code in CloseCode if code >= 4000]
        expected = [(str(int(c)), c.reason, _again(c.advice)) for c in ours]
        self.assertEqual(rows[1:], expected)

    def test_examples(self) -> None:
        """Every JSON example is JSON, and those of classic messages are read by the code."""
        messages = [json.loads(line) for line in _examples(read("protocol.md"))]
        classic = [m for m in messages if "header" in m and "type" not in m]
        sent = [m for m in classic if "id" not in m]
        got = [m for m in classic if "id" in m]
        self.assertEqual((len(sent), len(got)), (1, 3))
        read_back = wire.decode_submission(json.dumps(sent[0]).encode(), "alice", 0)
        self.assertEqual((read_back.topic, read_back.content), ("bob", "Hello Bob!"))
        for example in got:
            message = wire.decode_delivery(json.dumps(example).encode())
            self.assertEqual(json.loads(wire.encode_delivery(message)), example)

    def test_v1_requests(self) -> None:
        """Each frame to the server has an example, which is read, and written the same again."""
        seen = set()
        for name, example in self._v1_examples("client to server"):
            request = v1.decode_request(json.dumps(example).encode())
            self.assertEqual(example["type"], name)
            self.assertEqual(example, _with_defaults(v1.encode(request), example))
            seen.add(type(request))
        self.assertEqual(seen, set(get_args(v1.Request)))

    def test_v1_events(self) -> None:
        """Each frame to the client has an example, which is read, and written the same again."""
        seen = set()
        for name, example in self._v1_examples("server to client"):
            event = v1.decode_event(json.dumps(example).encode())
            self.assertEqual(example["type"], name)
            self.assertEqual(example, _with_defaults(v1.encode(event), example))
            seen.add(type(event))
        self.assertEqual(seen, set(get_args(v1.Event)))

    def test_v1_unknown_keys(self) -> None:
        """As the document says, what is not known is ignored in every frame."""
        for direction, decode in (
            ("client to server", v1.decode_request),
            ("server to client", v1.decode_event),
        ):
            for _, example in self._v1_examples(direction):
                more = {**example, "something": {"else": [1]}}
                plain = decode(json.dumps(example).encode())
                self.assertEqual(decode(json.dumps(more).encode()), plain)

    def test_v1_message_is_understood(self) -> None:
        """The example of a message means what the text around it says."""
        examples = dict(self._v1_examples("client to server"))
        submission = v1.decode_request(json.dumps(examples["message"]).encode())
        assert isinstance(submission, v1.Submission)
        message = v1.submitted(submission, "alice", 0)
        self.assertEqual((message.sender, message.topic), ("alice", "bob"))
        self.assertEqual((message.client_id, message.follows), ("a2", "a1"))

    def _section(self, title: str) -> str:
        _, _, rest = read("protocol.md").partition(f"\n## {title}\n")
        return rest.partition("\n## ")[0]

    def _v1_examples(self, direction: str) -> list[tuple[str, Any]]:
        """The names and examples of the frames of one direction."""
        found = []
        for part in self._section("wschat.v1").split("\n### ")[1:]:
            heading, _, text = part.partition("\n")
            name = re.fullmatch(rf"`(\w+)`, {direction}", heading)
            if name is not None:
                (example,) = _examples(text)
                found.append((name[1], json.loads(example)))
        return found

    def test_commands(self) -> None:
        """The examples of commands and answers are read by the code."""
        content = '{"command": "echo", "params": {"any": "JSON"}, "request_id": "1"}'
        self.assertIn(content, read("protocol.md"))
        self.assertEqual(wire.decode_command(content).command, "echo")
        answers = re.findall(r'^\{"success".*\}$', read("protocol.md"), re.MULTILINE)
        self.assertEqual([wire.decode_answer(a).success for a in answers], [True, False])


class ArchitectureTests(SynchronousTestCase):
    """docs/architecture.md."""

    def test_modules(self) -> None:
        """The house that it draws has the rooms that there are."""
        drawn = set(re.findall(r"^  (\w+\.py) +L\d", read("architecture.md"), re.MULTILINE))
        there = {path.name for path in (ROOT / "wschat").glob("*.py")} - {"__init__.py"}
        self.assertEqual(drawn, there)


class ClientsTests(SynchronousTestCase):
    """docs/clients.md."""

    def test_statuses(self) -> None:
        """Every exit status is in the table."""
        rows = re.findall(r"^\| (\d) \|", read("clients.md"), re.MULTILINE)
        self.assertEqual([int(row) for row in rows], [status.value for status in Exit])

    def test_variables(self) -> None:
        """Every variable in the table is read by a client, and the other way round."""
        listed = set(re.findall(r"^\| `([A-Z_]+)` \|", read("clients.md"), re.MULTILINE))
        sources = [*(ROOT / "wschat" / "client").glob("*.py"), *(ROOT / "clients").glob("*.py")]
        text = "\n".join(path.read_text("utf-8") for path in sources)
        used = set(re.findall(r'(?:get\(|(?:flag|seconds)\((?:os\.)?environ, )"([A-Z_]+)"', text))
        self.assertEqual(listed - {"SSL_CERT_FILE"}, used - {"XDG_CONFIG_HOME"})
