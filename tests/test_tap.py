"""Tests of `wschat.tap`: what `twistd wschat` takes, and makes of it."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from wschat import config
from wschat.server import Server
from wschat.tap import Options, makeService


class OptionsTests(SynchronousTestCase):
    """The command line of `twistd wschat`."""

    def setUp(self) -> None:
        self.patch(os, "environ", {"HOME": "/home/nobody"})

    def parse(self, *arguments: str) -> config.Config:
        options = Options()
        options.parseOptions(list(arguments))
        return options.config

    def refused(self, *arguments: str) -> str:
        """The program ends with status 1 (a text, for `sys.exit`) and this one line."""
        error = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertIsInstance(error.code, str)
        self.assertRegex(error.code, r"\Awschat: [^\n]+\Z")
        return str(error.code)

    def test_nothing_given(self) -> None:
        """Without options the configuration is that of an empty environment."""
        self.assertEqual(self.parse(), config.load({}, os.environ))

    def test_given(self) -> None:
        """What is given is taken, by the command line before the environment."""
        os.environ.update({"WSCHAT_LISTEN": ":1", "WSCHAT_HTTP": ":2"})
        parsed = self.parse("--listen", ":3", "--message-rate=5")
        self.assertEqual((parsed.listen, parsed.http, parsed.message_rate), (":3", ":2", 5.0))

    def test_every_setting_is_an_option(self) -> None:
        """Every setting has its option, and no option is anything else."""
        names = {parameter[0] for parameter in Options.optParameters}
        self.assertEqual(names, {setting.name for setting in config.SETTINGS})

    def test_help_shows_defaults(self) -> None:
        """The help says what an option is when it is not given, and shows no secret."""
        os.environ["WSCHAT_JWT_SECRET"] = "hush"
        text = " ".join(str(Options()).split())
        self.assertIn("[default: :8443]", text)
        self.assertNotIn("hush", text)

    def test_unknown_option(self) -> None:
        """An option that is none is refused by its name."""
        self.assertIn("nonsense", self.refused("--nonsense=1"))

    def test_wrong_value(self) -> None:
        """A wrong value is refused with the option, the value, and what is accepted."""
        line = self.refused("--registration", "perhaps")
        for part in ("--registration", "perhaps", "open or closed"):
            self.assertIn(part, line)

    def test_wrong_environment(self) -> None:
        """A wrong value in the environment is refused with the variable's name."""
        os.environ["WSCHAT_MESSAGE_RATE"] = "many"
        self.assertIn("WSCHAT_MESSAGE_RATE", self.refused())

    def test_arguments(self) -> None:
        """Arguments that are no options are refused."""
        self.assertIn("surplus", self.refused("surplus", "words"))

    def test_service(self) -> None:
        """`makeService` makes the server, and starts nothing yet."""
        self.patch(os, "environ", {"WSCHAT_DATA_DIR": self.mktemp()})
        options = Options()
        options.parseOptions([])
        service = makeService(options)
        self.assertIsInstance(service, Server)
        self.assertFalse(service.running)
        self.assertFalse(options.config.data_dir.exists())
