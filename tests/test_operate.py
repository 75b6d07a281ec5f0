"""operate/: what a machine is given to run the server, and docs/operate.md."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from scripts.processes import PROGRAMS
from wschat import config
from wschat.admin import program
from wschat.tap import Options

ROOT = Path(__file__).parent.parent
OPERATE = ROOT / "operate"
DOCUMENT = (ROOT / "docs" / "operate.md").read_text("utf-8")

#: What `systemd-analyze security` may call the exposure, in tenths; the field's servers are at 90.
EXPOSURE = 20


#: All that the command `wschat` can be told.
COMMANDS = (
    *("check", "config", "backup x", "restore x", "export x", "forget x"),
    *(f"user {verb} x" for verb in ("disable", "enable", "kick")),
    *("user list", "user add x --make-key", "user reset-key x --make-key"),
    *("token create x", "token inspect x"),
)


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with all its values."""
    found: dict[str, list[str]] = {}
    text = (OPERATE / unit).read_text("utf-8").replace("\\\n", " ")
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


class UnitTests(SynchronousTestCase):
    """The systemd units."""

    def test_options(self) -> None:
        """What the service runs is a command line that the server understands."""
        (command,) = settings("wschat.service")["ExecStart"]
        program, *arguments = shlex.split(command)
        self.assertEqual(Path(program).name, "twistd")
        options = Options()
        options.parseOptions(arguments[arguments.index("wschat") + 1 :])
        self.assertEqual(options.config.listen, "systemd:domain=INET6:index=0")
        self.assertEqual(options.config.http, "systemd:domain=INET6:index=1")

    def test_sockets(self) -> None:
        """The sockets come in the order in which the service counts them."""
        self.assertEqual(settings("wschat.socket")["ListenStream"], ["[::]:443", "[::]:80"])

    def test_variables(self) -> None:
        """The variables that it sets are the server's."""
        names = {value.partition("=")[0] for value in settings("wschat.service")["Environment"]}
        variables = {setting.variable for setting in config.SETTINGS}
        self.assertEqual(names - {"PYTHONUNBUFFERED"} - variables, set())

    def test_time_to_drain(self) -> None:
        """systemd waits longer for the end than the server takes."""
        (seconds,) = settings("wschat.service")["TimeoutStopSec"]
        self.assertGreater(float(seconds), config.load({}, {}).drain_seconds)

    def analyze(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`systemd-analyze`, of the units with the programs of this environment."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for unit in OPERATE.glob("wschat.*"):
            text = unit.read_text("utf-8").replace("/opt/wschat/bin", str(PROGRAMS))
            (directory / unit.name).write_text(text)
        return subprocess.run(
            ["systemd-analyze", *arguments],
            cwd=directory,
            env={"SYSTEMD_UNIT_PATH": f"{directory}:", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_verified(self) -> None:
        """systemd itself has nothing to say about them."""
        found = self.analyze("verify", "./wschat.service", "./wschat.socket")
        self.assertEqual((found.returncode, found.stderr), (0, ""))

    def test_hardened(self) -> None:
        """What is left of the machine for the server is little, by systemd's own measure."""
        found = self.analyze(
            "security", "--offline=true", f"--threshold={EXPOSURE}", "./wschat.service"
        )
        if "unrecognized option" in found.stderr:
            raise SkipTest("this systemd-analyze cannot look at units that are not loaded")
        self.assertEqual(found.returncode, 0, found.stdout[-200:])


class DocumentTests(SynchronousTestCase):
    """docs/operate.md."""

    def test_commands(self) -> None:
        """Every command of `wschat` in it is one, and every command that there is is in it."""
        lines = re.findall(r"^(?:sudo -u wschat )?wschat (.+)$", DOCUMENT, re.MULTILINE)
        parse = program.parser().parse_args
        shown = {parse(shlex.split(re.split(" [#<>]", line)[0])).run for line in lines}
        self.assertEqual(shown, {parse(shlex.split(line)).run for line in COMMANDS})

    def test_live_options(self) -> None:
        """The options that a server takes while it runs are listed."""
        _, _, rest = DOCUMENT.partition("while it runs are ")
        listed = re.findall(r"`--([a-z-]+)`", rest.partition(".")[0])
        live = [setting.name for setting in config.SETTINGS if setting.live]
        self.assertEqual(sorted(listed), sorted(live))

    def test_options(self) -> None:
        """Options that it names exist."""
        for name in re.findall(r"`--([a-z0-9-]+)", DOCUMENT):
            known = {setting.name for setting in config.SETTINGS}
            own = {"name", "replace", "yes", "make-key", "public-key", "lifetime"}
            self.assertIn(name, known | own)

    def test_files(self) -> None:
        """Files that it names are there."""
        for name in re.findall(r"`(operate/[\w.]+)`", DOCUMENT):
            self.assertTrue((ROOT / name).is_file(), name)
