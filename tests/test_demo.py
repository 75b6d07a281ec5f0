"""`./just demo` without a terminal."""

from __future__ import annotations

from tests.endtoend import ROOT, EndToEnd, run

#: A demo with a scene in which somebody leaves, and should have said more.
BROKEN = """
from scripts import demo
from twisted.internet.defer import Deferred
from twisted.internet.task import react

demo._SCENES = (("bob", "/quit", {"bob": "a line that cannot come"}),)
react(lambda reactor: Deferred.fromCoroutine(demo.main(reactor)))
"""


class DemoTests(EndToEnd):
    """The demo as a program, with nothing to read from."""

    async def demo(self, *command: str) -> tuple[int, str, str]:
        """Run a demo; its status, output and errors.  It must leave no files."""
        home = self.directory()
        home.mkdir()
        environ = {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        done = await self.in_thread(run, ["python", *command], environ, ROOT)
        self.assertEqual(list(home.iterdir()), [])
        return done.returncode, done.stdout, done.stderr

    async def test_all_lines(self) -> None:
        """It shows everybody's terminal, and ends with 0 when every line has come."""
        status, out, err = await self.demo("-m", "scripts.demo")
        self.assertEqual((status, err), (0, ""), out)
        lines = out.splitlines()
        self.assertEqual(lines[-1], "demo: everybody was heard.")
        for name in ("server", "alice", "bob", "charlie", "bot"):
            self.assertTrue([line for line in lines if line.startswith(f"{name:>8} | ")], name)
        self.assertRegex(out, r" bob \| \[[0-9:]+\] alice -> bob \[VERIFIED\] \[ENCRYPTED\]: Hey")
        self.assertNotIn("\x1b", out)

    async def test_missing_line(self) -> None:
        """It ends with 1, and says which line is missing, when one does not come."""
        status, out, err = await self.demo("-c", BROKEN)
        self.assertEqual(status, 1, out)
        self.assertTrue(err.startswith("demo: bob never saw: a line that cannot come"), err)
        self.assertNotIn("everybody was heard", out)
