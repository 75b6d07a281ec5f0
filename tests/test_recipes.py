"""The recipes and the demo for containers: what they ask of Docker, which is a recorder here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from scripts.processes import PROGRAMS

ROOT = Path(__file__).parent.parent

#: Writes down its arguments, one call a line, and what it is given to read.
RECORDER = """#!/bin/sh
{
    for argument in "$@"; do printf '[%s]' "$argument"; done
    case "$1$2" in exec-i) printf '<'; cat;; *) echo;; esac
} >>"$RECORD"
"""

NAMES = re.compile(r"ws-[a-z-]+")


class RecorderTests(SynchronousTestCase):
    """Programs of this checkout, with a recorder for `docker`."""

    def setUp(self) -> None:
        programs = Path(self.mktemp()).absolute()
        programs.mkdir()
        docker = programs / "docker"
        docker.write_text(RECORDER)
        docker.chmod(0o755)
        self.record = programs / "record"
        self.environ = {
            "PATH": f"{programs}:{PROGRAMS}:{os.environ['PATH']}",
            "RECORD": str(self.record),
            "HOME": str(programs),
        }

    def asked(self, *command: str | Path) -> list[str]:
        """What a command, which must succeed, asks of Docker, call by call."""
        subprocess.run(
            command, cwd=ROOT, env=self.environ, check=True, capture_output=True, timeout=60
        )
        return self.record.read_text("utf-8").splitlines()


class RecipesTests(RecorderTests):
    """`just`."""

    def recipe(self, *arguments: str, directory: Path = ROOT) -> str:
        # The justfile puts .venv first, so the recorder is named there.
        path = self.environ["PATH"]
        text = (ROOT / "justfile").read_text("utf-8")
        line = 'export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")'
        self.assertIn(line, text)
        copy = self.record.with_name("justfile")
        copy.write_text(text.replace(line, f"export PATH := '{path}'"), "utf-8")
        where = ("--justfile", copy, "--working-directory", directory)
        (call,) = self.asked("just", *where, *arguments)
        return call

    def test_compose(self) -> None:
        """The recipes that are a command's other name."""
        for name, expected in (
            ("docker-build", "[compose][build]"),
            ("docker-compose-up", "[compose][up][-d]"),
            ("docker-compose-down", "[compose][down]"),
            ("docker-logs", "[logs][-f][ws-server]"),
            ("docker-stop", "[stop][ws-server]"),
            (
                "docker-active-users",
                "[exec][ws-server][wget][-qO-][http://localhost/active-users]",
            ),
            (
                "docker-compose-logs-clients",
                "[compose][logs][-f][client-alice][client-bob][client-charlie][message-bot]",
            ),
        ):
            self.assertEqual(self.recipe(name), expected)
            self.record.unlink()

    def test_selective(self) -> None:
        """The server and those that are named are started; the bot has another kind of name."""
        call = self.recipe("docker-compose-up-selective", "alice bob bot")
        expected = "[compose][up][-d][websocket-server][client-alice][client-bob][message-bot]"
        self.assertEqual(call, expected)

    def test_attach(self) -> None:
        """A client's terminal, and the bot's."""
        self.assertEqual(self.recipe("docker-attach-client", "alice"), "[attach][ws-client-alice]")
        self.record.unlink()
        self.assertEqual(self.recipe("docker-attach-client", "bot"), "[attach][ws-message-bot]")

    def test_send_message(self) -> None:
        """A line goes to a client's program as it is, whatever a shell would make of it."""
        line = '@bob It\'s $HOME `id` "here"; !'
        call = self.recipe("docker-send-message", "alice", line)
        self.assertEqual(call, f"[exec][-i][ws-client-alice][./simple-client]<{line}")

    def test_run(self) -> None:
        """Server and client run as confined as in compose, and with what they have there."""
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
        volumes = {f"{compose['name']}_{volume}" for volume in compose["volumes"]}
        for arguments in (["docker-run-server"], ["docker-run-client", "bob"]):
            call = self.recipe(*arguments)
            self.record.unlink()
            for part in ("[--read-only]", "[--cap-drop][ALL]", "[--security-opt]", "[--rm]"):
                self.assertIn(part, call)
            for limit in ("[--memory]", "[--pids-limit]", "[max-size=10m]", "[max-file=3]"):
                self.assertIn(limit, call)
            (volume,) = re.findall(r"\[-v\]\[([^:]+):", call)
            self.assertIn(volume, volumes)
        self.assertIn("[WS_USER_ID=bob]", call)
        self.assertTrue(call.endswith("[websocket-client:latest]"), call)

    def test_run_with_secrets(self) -> None:
        """They have the secrets that .env gives them in compose, not on their command line."""
        directory = self.record.with_name("project")
        directory.mkdir()
        (directory / ".env").write_text("JWT_SECRET=s3cret\nAL_B_1_PRIVATE_KEY=a+k/==\n", "utf-8")
        self.record.with_name("docker").write_text(
            '#!/bin/sh\necho "$* ($JWT_SECRET,$WS_PRIVATE_KEY)" >>"$RECORD"\n'
        )
        for arguments, name, value in (
            (["docker-run-server"], "JWT_SECRET", "(s3cret,)"),
            (["docker-run-client", "al-b.1"], "WS_PRIVATE_KEY", "(,a+k/==)"),
            (["docker-run-client", "eve"], "WS_PRIVATE_KEY", "(,)"),
        ):
            call = self.recipe(*arguments, directory=directory)
            self.record.unlink()
            self.assertIn(f" -e {name} ", call)
            self.assertTrue(call.endswith(value), call)
        (directory / ".env").unlink()
        self.assertIn(" -e JWT_SECRET ", self.recipe("docker-run-server", directory=directory))


class DemoTests(RecorderTests):
    """./demo-multi-client.sh."""

    def test_steps(self) -> None:
        """It builds, and starts the server, three clients and the bot; then it shows the log."""
        self.assertEqual(
            self.asked(ROOT / "demo-multi-client.sh"),
            [
                "[compose][build]",
                "[compose][up][-d][websocket-server]",
                "[compose][up][-d][client-alice][client-bob][client-charlie]",
                "[compose][up][-d][message-bot]",
                "[compose][logs][-f]",
            ],
        )

    def test_from_anywhere(self) -> None:
        """It finds its files from anywhere, and stops at the first thing that fails."""
        docker = self.record.with_name("docker")
        docker.write_text('#!/bin/sh\npwd >>"$RECORD"\n[ "$2" = build ]\n')
        done = subprocess.run(
            [ROOT / "demo-multi-client.sh"],
            cwd="/",
            env=self.environ,
            check=False,
            capture_output=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.record.read_text("utf-8").splitlines(), [str(ROOT)] * 2)
