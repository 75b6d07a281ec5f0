"""The documents: what can be compared with the code is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat import wire
from wschat.client.terminal import Exit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


class ProtocolTests(SynchronousTestCase):
    """docs/protocol.md."""

    def test_close_codes(self) -> None:
        """Each code of ours is in the table, with its reason and whether to come back."""
        rows = re.findall(r"^\| (\d{4}) \| (.*?) \| (.*?) \|$", read("protocol.md"), re.MULTILINE)
        codes = {int(code): (reason, again) for code, reason, again in rows}
        self.assertEqual(set(codes), {int(code) for code in wire.CloseCode})
        for code in wire.CloseCode:
            reason, again = codes[code]
            self.assertEqual(reason, code.reason)
            self.assertEqual(again == "yes", 4000 <= code < 4500)

    def test_examples(self) -> None:
        """Every JSON example is JSON, and those of messages are read by the code."""
        blocks = re.findall(r"```json\n(.*?)```", read("protocol.md"), re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        messages = [json.loads(line) for line in lines]
        sent = [m for m in messages if "header" in m and "id" not in m]
        got = [m for m in messages if "header" in m and "id" in m]
        self.assertEqual((len(sent), len(got)), (1, 3))
        read_back = wire.decode_submission(json.dumps(sent[0]).encode(), "alice", 0)
        self.assertEqual((read_back.topic, read_back.content), ("bob", "Hello Bob!"))
        for example in got:
            message = wire.decode_delivery(json.dumps(example).encode())
            self.assertEqual(json.loads(wire.encode_delivery(message)), example)

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
        used = set(re.findall(r'(?:get\(|flag\(environ, )"([A-Z_]+)"', text))
        self.assertEqual(listed - {"SSL_CERT_FILE"}, used - {"XDG_CONFIG_HOME"})
