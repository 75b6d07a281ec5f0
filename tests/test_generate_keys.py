"""scripts/generate-keys.sh, run in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wschat.identity import PrivateKey

ROOT = Path(__file__).parent.parent


class GenerateKeysTests(SynchronousTestCase):
    """What it makes, and what it leaves alone."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        (self.home / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "generate-keys.sh", self.home / "scripts")
        shutil.copy(ROOT / ".env.example", self.home)

    def generate(self, *users: str) -> subprocess.CompletedProcess[str]:
        script = self.home / "scripts" / "generate-keys.sh"
        return subprocess.run([script, *users], capture_output=True, text=True, check=False)

    @property
    def made(self) -> dict[str, str]:
        lines = (self.home / ".env").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def test_all(self) -> None:
        """Without a name, everybody in docker-compose.yml has a key, each another one."""
        done = self.generate()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        made = self.made
        self.assertRegex(made.pop("JWT_SECRET"), r"\A[0-9a-f]{64}\Z")
        keys = {name: text for name, text in made.items() if text}
        self.assertEqual(
            set(keys), {f"{who}_PRIVATE_KEY" for who in ("ALICE", "BOB", "CHARLIE", "BOT")}
        )
        self.assertEqual(len(set(keys.values())), 4)

    def test_keys_are_keys(self) -> None:
        """A key is one that a client takes, whose halves belong together."""
        self.generate("alice")
        text = self.made["ALICE_PRIVATE_KEY"]
        self.assertEqual(PrivateKey.from_text(text).to_text(), text)

    def test_nobody_else_reads_it(self) -> None:
        """.env is its owner's alone, and nothing else is left behind."""
        self.generate()
        self.assertEqual(stat.S_IMODE((self.home / ".env").stat().st_mode), 0o600)
        left = {path.name for path in self.home.iterdir()}
        self.assertEqual(left, {".env", ".env.example", "scripts"})

    def test_no_secret_is_printed(self) -> None:
        """What it prints are names."""
        said = self.generate().stdout
        self.assertIn("JWT_SECRET: made", said)
        for name, value in self.made.items():
            if value:
                self.assertNotIn(value, said, name)

    def test_again(self) -> None:
        """What is there stays, and so does what somebody wrote; only what is missing is made."""
        self.generate()
        path = self.home / ".env"
        text = path.read_text("utf-8").replace("HTTP_PORT=", "HTTP_PORT=8080")
        path.write_text(f"{text}# mine\n", "utf-8")
        before = self.made
        said = self.generate("alice", "d.a-vid").stdout
        self.assertIn("JWT_SECRET: kept\nALICE_PRIVATE_KEY: kept\nD_A_VID_PRIVATE_KEY: made", said)
        after = self.made
        PrivateKey.from_text(after.pop("D_A_VID_PRIVATE_KEY"))
        self.assertEqual(after, before)
        self.assertIn("# mine\n", path.read_text("utf-8"))

    def test_a_secret_of_ones_own(self) -> None:
        """A short one is kept as well: it is not this program's to change."""
        (self.home / ".env").write_text("JWT_SECRET=x\n", "utf-8")
        self.generate("bob")
        self.assertEqual(self.made["JWT_SECRET"], "x")

    def test_interrupted(self) -> None:
        """Ctrl+C leaves no half of it behind."""
        programs = Path(self.mktemp()).absolute()
        programs.mkdir()
        openssl = programs / "openssl"
        openssl.write_text("#!/bin/sh\necho here >&2\nexec sleep 60\n")
        openssl.chmod(0o755)
        with subprocess.Popen(
            [self.home / "scripts" / "generate-keys.sh"],
            env={"PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            self.assertEqual(process.stderr.readline(), b"here\n")
            os.killpg(process.pid, signal.SIGINT)
            self.assertEqual(process.wait(60), 1)
        left = {path.name for path in self.home.iterdir()}
        self.assertEqual(left, {".env.example", "scripts"})

    def test_no_user_id(self) -> None:
        """What is no user id is refused, and .env is not made."""
        done = self.generate("a b")
        self.assertEqual((done.returncode, done.stderr[:14]), (1, "generate-keys:"))
        self.assertFalse((self.home / ".env").exists())
