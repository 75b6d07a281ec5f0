"""Tests of `wschat.admin.tokens`."""

from __future__ import annotations

import time

import jwt

from tests.admin.support import AdminTests
from wschat.accounts import Accounts
from wschat.datadir import DataDirectory


class TokenTests(AdminTests):
    """`wschat token`."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.store("alice")
        self.secret = DataDirectory(self.data_dir).jwt_secret()

    def create(self, *arguments: str) -> str:
        (token,) = self.does("token", "create", "alice", *arguments)
        return token

    def test_create(self) -> None:
        """The server takes it, for as long as was asked for."""
        accounts = Accounts(self.kept.users, self.secret, 60, registration_open=False)
        accounts.load(self.kept.users.all())
        for arguments, lifetime in (((), 86400), (("--lifetime", "90m"), 5400)):
            token = self.create(*arguments)
            self.assertEqual(accounts.authenticate(token, time.time()).user_id, "alice")
            claims = jwt.decode(token, self.secret, ["HS256"])
            self.assertEqual(claims["exp"] - claims["iat"], lifetime)

    def test_not_created(self) -> None:
        """For nobody, for who is disabled, and for too long, there is none."""
        self.fails("token", "create", "nobody")
        self.assertIn("--lifetime", self.fails("token", "create", "alice", "--lifetime", "long"))
        self.does("user", "disable", "alice")
        self.assertIn("disabled", self.fails("token", "create", "alice"))

    def test_no_secret(self) -> None:
        """Before there is a secret there are no tokens, and none is made for them."""
        path = self.data_dir / "jwt-secret"
        path.unlink()
        self.assertIn("no secret yet", self.fails("token", "create", "alice"))
        self.assertFalse(path.exists())

    def test_given_secret(self) -> None:
        """A secret of the configuration is what it is signed with."""
        self.environ = {**self.environ, "JWT_SECRET": "another secret of thirty-two bytes"}
        wrong = jwt.InvalidSignatureError
        self.assertRaises(wrong, jwt.decode, self.create(), self.secret, ["HS256"])

    def test_inspect(self) -> None:
        """What is in it, and that it is good; given as an argument or on the standard input."""
        token = self.create()
        lines = self.does("token", "inspect", token)
        self.assertEqual(lines[0], "user_id: alice")
        self.assertRegex(lines[-2], r"\Aexp: \d{4}-\d\d-\d\dT[\d:.]+Z\Z")
        self.assertEqual(lines[-1], "The server takes it.")
        self.assertEqual(self.wschat("token", "inspect", "-", says=token + "\n").lines, lines)

    def test_inspect_bad(self) -> None:
        """Why one is not taken is said, and what it claims."""
        token = self.create()
        ended = self.wschat("token", "inspect", token[:-4] + "AAAA")
        self.assertEqual((ended.status, ended.error), (1, "wschat: The token is not valid.\n"))
        self.assertEqual(ended.lines[0], "user_id: alice")
        over = jwt.encode({"user_id": "alice", "exp": 1}, self.secret, "HS256")
        self.assertIn("has ended", self.wschat("token", "inspect", over).error)
        self.assertIn("no token", self.fails("token", "inspect", "junk"))

    def test_inspect_whatever_it_claims(self) -> None:
        """What a stranger's token claims is shown, but does not control the terminal."""
        for claim, shown in (
            ({"exp": 1e300}, "exp: 1e+300"),
            ({"iat": -1e12}, "iat: -1000000000000.0"),
            ({"user_id": "\x1b[31mbob\n"}, r"user_id: '\x1b[31mbob\n'"),
            ({"\x1b[2J": 1}, r"'\x1b[2J': 1"),
        ):
            ended = self.wschat("token", "inspect", jwt.encode(claim, "x" * 32, "HS256"))
            self.assertEqual((ended.status, ended.lines), (1, [shown]))
            self.assertEqual(ended.error, "wschat: The token is not valid.\n")

    def test_inspect_no_text(self) -> None:
        """Bytes that are no text are no token."""
        self.assertIn("no token", self.fails("token", "inspect", "\udcff\udcfe.x.y"))
