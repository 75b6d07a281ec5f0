"""Tests of `wschat.accounts`."""

from __future__ import annotations

import base64
import hmac
import json
from http import HTTPStatus
from typing import Any

import jwt
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support import NOW, SECRET, MemoryStore
from wschat import accounts, rotation, wire
from wschat.accounts import AccountError, Accounts, Challenges, Registration
from wschat.identity import PrivateKey, User

DAY = 86400.0


class ChallengeTests(SynchronousTestCase):
    """What users are asked to sign."""

    def setUp(self) -> None:
        self.challenges = Challenges()

    def test_random(self) -> None:
        """Every challenge is 32 bytes that were never seen before."""
        issued = [self.challenges.issue(f"user{n}", 0) for n in range(100)]
        self.assertEqual({len(challenge) for challenge in issued}, {32})
        self.assertEqual(len(set(issued)), 100)

    def test_bound_to_one_user(self) -> None:
        """A challenge is outstanding for the user that it was issued for, and nobody else."""
        challenge = self.challenges.issue("alice", 0)
        self.assertEqual(self.challenges.outstanding("alice", 0), [challenge])
        self.assertEqual(self.challenges.outstanding("bob", 0), [])

    def test_single_use(self) -> None:
        """A challenge that was used is gone; the user's others stay."""
        first, second = (self.challenges.issue("alice", 0) for _ in range(2))
        self.challenges.use(first)
        self.assertEqual(self.challenges.outstanding("alice", 0), [second])

    def test_lives_for_a_minute(self) -> None:
        """A challenge can be answered for less than sixty seconds."""
        challenge = self.challenges.issue("alice", 100)
        self.assertEqual(self.challenges.outstanding("alice", 159.9), [challenge])
        self.assertEqual(self.challenges.outstanding("alice", 160), [])

    def test_clock_set_back(self) -> None:
        """When the clock is set back, a challenge does not live the longer for it."""
        self.challenges.issue("alice", 10_000)
        self.assertEqual(self.challenges.outstanding("alice", 100), [])

    def test_clock_set_back_a_little(self) -> None:
        """Nor does one that was issued after that, behind others that seem younger."""
        self.challenges.issue("alice", 80)
        self.challenges.issue("bob", 100)
        challenge = self.challenges.issue("charlie", 90)
        self.assertEqual(self.challenges.outstanding("charlie", 149), [challenge])
        self.assertEqual(self.challenges.outstanding("charlie", 151), [])

    def test_at_most(self) -> None:
        """A user has 64 at most; the next takes the place of the oldest."""
        issued = [self.challenges.issue("alice", n / 10) for n in range(65)]
        self.assertEqual(self.challenges.outstanding("alice", 9), issued[1:])

    def test_so_many_each(self) -> None:
        """One user's challenges do not push out another's."""
        bobs = self.challenges.issue("bob", 0)
        for _ in range(100):
            self.challenges.issue("alice", 0)
        self.assertEqual(self.challenges.outstanding("bob", 0), [bobs])


class _AccountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()
        self.accounts = Accounts(self.store.users, SECRET, DAY, True)
        self.key = PrivateKey.generate()

    def wanted(self, user_id: str = "alice", **fields: Any) -> Registration:
        values = {"public_key": self.key.public_key, **fields}
        return Registration(user_id, **values)

    def register(self, user_id: str = "alice", **fields: Any) -> User:
        return self.successResultOf(self.accounts.register(self.wanted(user_id, **fields), NOW))

    def refused(self, status: HTTPStatus, function: Any, *args: Any) -> str:
        """Calling it is refused with that status, in one readable line, which is returned."""
        error = self.assertRaises(AccountError, function, *args)
        self.assertEqual(error.status, status)
        self.assertTrue(error.text.strip())
        self.assertNotIn("\n", error.text)
        return str(error.text)


class RegistrationTests(_AccountsTests):
    """Making an account."""

    def test_registered(self) -> None:
        """The user is known at once, and stored."""
        user = self.register(username="Alice", x25519_public_key=self.key.x25519_public_key)
        self.assertEqual(
            user,
            User("alice", "Alice", self.key.public_key, self.key.x25519_public_key, NOW),
        )
        self.assertEqual(self.accounts.user("alice"), user)
        self.assertEqual(self.store.users.all(), [user])

    def test_defaults(self) -> None:
        """Without a user name it is the id; an empty X25519 key is none."""
        user = self.register(x25519_public_key="")
        self.assertEqual((user.username, user.x25519_public_key), ("alice", None))

    def test_taken(self) -> None:
        """A taken id is a 409, whoever asks, and the first key stays."""
        self.register()
        wanted = self.wanted(public_key=PrivateKey.generate().public_key)
        self.refused(HTTPStatus.CONFLICT, self.accounts.register, wanted, NOW)
        self.assertEqual(self.accounts.user("alice").public_key, self.key.public_key)

    def test_taken_meanwhile(self) -> None:
        """Of two who ask for an id at the same time, one gets it and one a 409."""
        self.store.writer.held = True
        first, second = (self.accounts.register(self.wanted(), NOW) for _ in range(2))
        self.store.writer.release()
        self.assertEqual(self.successResultOf(first).user_id, "alice")
        error = self.failureResultOf(second, AccountError).value
        self.assertEqual(error.status, HTTPStatus.CONFLICT)

    def test_store_fails(self) -> None:
        """When the store fails, so does the registration, and the user does not exist."""
        self.store.writer.held = True
        registering = self.accounts.register(self.wanted(), NOW)
        self.store.writer.fail(OSError("disk full"))
        self.failureResultOf(registering, OSError)
        self.refused(HTTPStatus.NOT_FOUND, self.accounts.user, "alice")

    def test_closed(self) -> None:
        """When registration is closed it is a 403."""
        closed = Accounts(self.store.users, SECRET, DAY, False)
        self.refused(HTTPStatus.FORBIDDEN, closed.register, self.wanted(), NOW)
        self.assertEqual(self.store.users.all(), [])

    def test_bad_names(self) -> None:
        """Names that mean something in a frame, and names of other characters, are a 400."""
        for name in (
            "broadcast", "server", "system", "", "a b", "a/b", "a\n", "alice\u00e9", "x" * 65,
        ):  # fmt: skip
            self.refused(HTTPStatus.BAD_REQUEST, self.accounts.register, self.wanted(name), NOW)

    def test_longest_names(self) -> None:
        """Ids of 64 characters and user names of 256 are accepted."""
        self.assertEqual(self.register("x" * 64, username="y" * 256).username, "y" * 256)

    def test_long_username(self) -> None:
        """A user name of 257 characters is a 400."""
        wanted = self.wanted(username="y" * 257)
        self.refused(HTTPStatus.BAD_REQUEST, self.accounts.register, wanted, NOW)

    def test_bad_keys(self) -> None:
        """A string that is no key is a 400: not base64, of another length, or no point."""
        short, zeros = (base64.b64encode(bytes(size)).decode() for size in (31, 32))
        bad = ["", "key", self.key.public_key[:-1], self.key.public_key + "\n", short, zeros]
        for fields in (
            *({"public_key": text} for text in bad),
            *({"x25519_public_key": text} for text in bad[1:]),
        ):
            wanted = self.wanted(**fields)
            self.refused(HTTPStatus.BAD_REQUEST, self.accounts.register, wanted, NOW)
        self.assertEqual(self.store.users.all(), [])

    def test_loaded(self) -> None:
        """Users whom the store has are known after `load`."""
        user = self.register()
        again = Accounts(self.store.users, SECRET, DAY, True)
        again.load(self.store.users.all())
        self.assertEqual(again.user("alice"), user)


class LoginTests(_AccountsTests):
    """Proving who one is."""

    def setUp(self) -> None:
        super().setUp()
        self.register()

    def login(self, signature: str, now: float = NOW, user_id: str = "alice") -> str:
        return self.accounts.login(user_id, signature, now).token

    def challenge(self, now: float = NOW) -> bytes:
        return self.accounts.challenge("alice", now)

    def test_login(self) -> None:
        """A signed challenge gives a token for 24 hours, with the claims user_id and exp."""
        token = self.accounts.login("alice", self.key.sign(self.challenge()), NOW)
        self.assertEqual(token.expires_at, "2026-11-23T10:00:00.000000Z")
        claims = jwt.decode(token.token, SECRET, ["HS256"], {"verify_exp": False})
        self.assertEqual((claims["user_id"], claims["exp"]), ("alice", int(NOW + DAY)))

    def test_once(self) -> None:
        """An answer that was accepted is not accepted again."""
        signature = self.key.sign(self.challenge())
        self.login(signature)
        self.refused(HTTPStatus.BAD_REQUEST, self.login, signature)

    def test_any_outstanding(self) -> None:
        """Someone else's asking in a user's name does not spoil the user's own challenge."""
        first = self.challenge()
        for _ in range(3):
            self.challenge()
        self.assertTrue(self.login(self.key.sign(first)))

    def test_nothing_outstanding(self) -> None:
        """Without a challenge it is a 400, as it is a minute after it."""
        self.refused(HTTPStatus.BAD_REQUEST, self.login, self.key.sign(b""))
        signature = self.key.sign(self.challenge())
        self.refused(HTTPStatus.BAD_REQUEST, self.login, signature, NOW + 60)

    def test_unknown_user(self) -> None:
        """For who is not registered, both steps are a 401."""
        self.refused(HTTPStatus.UNAUTHORIZED, self.accounts.challenge, "ghost", NOW)
        self.refused(HTTPStatus.UNAUTHORIZED, self.login, self.key.sign(b""), NOW, "ghost")

    def test_wrong_signature(self) -> None:
        """Junk, another's signature and a signature of something else are a 401."""
        challenge = self.challenge()
        for signature in (
            "", "junk", "é", PrivateKey.generate().sign(challenge), self.key.sign(b"other"),
        ):  # fmt: skip
            self.refused(HTTPStatus.UNAUTHORIZED, self.login, signature)

    def test_anothers_challenge(self) -> None:
        """A challenge of another user is not an answer."""
        bot = PrivateKey.generate()
        self.register("bot", public_key=bot.public_key)
        self.challenge()
        theirs = self.accounts.challenge("bot", NOW)
        self.refused(HTTPStatus.UNAUTHORIZED, self.login, self.key.sign(theirs))

    def test_wrong_answer_keeps_the_challenge(self) -> None:
        """After a wrong answer the right one still counts."""
        challenge = self.challenge()
        self.refused(HTTPStatus.UNAUTHORIZED, self.login, "junk")
        self.assertTrue(self.login(self.key.sign(challenge)))


def _by_hand(head: dict[str, Any], claims: dict[str, Any], secret: str) -> str:
    """A JWT that no library would make, with a good HS256 signature (RFC 7515)."""
    parts = [json.dumps(part).encode() for part in (head, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret.encode(), signed, "sha256")
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class TokenTests(_AccountsTests):
    """Tokens."""

    def setUp(self) -> None:
        super().setUp()
        self.user = self.register()
        challenge = self.accounts.challenge("alice", NOW)
        self.token = self.accounts.login("alice", self.key.sign(challenge), NOW).token

    def unauthorized(self, token: str, now: float = NOW) -> None:
        text = self.refused(HTTPStatus.UNAUTHORIZED, self.accounts.authenticate, token, now)
        self.assertLess(len(text), 60)  # whatever the token was, it is not in it

    def signed(self, claims: dict[str, Any], secret: str = SECRET) -> str:
        return jwt.encode(claims, secret, "HS256")

    def test_valid(self) -> None:
        """A token is its user's until the second it ends."""
        for now in (NOW, NOW + DAY - 0.001):
            self.assertEqual(self.accounts.authenticate(self.token, now), self.user)

    def test_anybodys_with_the_secret(self) -> None:
        """The claims user_id and exp, signed with the secret, are enough."""
        token = self.signed({"user_id": "alice", "exp": int(NOW) + 5})
        self.assertEqual(self.accounts.authenticate(token, NOW), self.user)

    def test_expired(self) -> None:
        """A token ends after 24 hours."""
        self.unauthorized(self.token, NOW + DAY)

    def test_tampered(self) -> None:
        """Every part of a token is signed or is the signature."""
        head, claims, signature = self.token.split(".")
        forged = base64.urlsafe_b64encode(
            json.dumps({"user_id": "bob", "exp": int(NOW + DAY)}).encode()
        )
        for token in (
            f"{head}.{forged.decode().rstrip('=')}.{signature}",
            f"{head}.{claims}.{signature[::-1]}",
            f"{head}.{claims}.",
            f"{head}.{claims}",
        ):
            self.unauthorized(token)

    def test_unsigned(self) -> None:
        """A token that says it needs no signature is refused, however it is spelt."""
        claims = self.token.split(".")[1]
        for name in ("none", "None", "NONE"):
            head = base64.urlsafe_b64encode(json.dumps({"alg": name, "typ": "JWT"}).encode())
            self.unauthorized(f"{head.decode().rstrip('=')}.{claims}.")

    def test_other_algorithm(self) -> None:
        """HS256 is the only algorithm, even with the right secret."""
        claims = {"user_id": "alice", "exp": NOW + DAY}
        self.unauthorized(jwt.encode(claims, SECRET * 2, "HS512"))
        longer = Accounts(self.store.users, SECRET * 2, DAY, True)
        longer.load([self.user])
        token = jwt.encode(claims, SECRET * 2, "HS512")
        self.refused(HTTPStatus.UNAUTHORIZED, longer.authenticate, token, NOW)

    def test_keys_of_its_own(self) -> None:
        """What a token's header says of a key is not believed, and makes it no better."""
        claims = {"user_id": "alice", "exp": NOW + 60}
        for more in (
            {"kid": "../../dev/null"},
            {"kid": "' or 1=1"},
            {"jwk": {"kty": "oct", "k": ""}},
            {"jku": "https://evil.example/", "x5u": "https://evil.example/"},
        ):
            for secret in ("", self.key.public_key, "\0"):
                self.unauthorized(_by_hand({"alg": "HS256", **more}, claims, secret))
            good = _by_hand({"alg": "HS256", **more}, claims, SECRET)
            self.assertEqual(self.accounts.authenticate(good, NOW), self.user)
        heads: list[dict[str, Any]] = [
            {"alg": ["HS256"]},
            {"alg": None},
            {"alg": {}},
            {"alg": "HS256", "kid": ["a"]},
            {"alg": "HS256", "crit": ["exp"]},
            {"alg": "HS256", "crit": ["b64"], "b64": False},
        ]
        for head in heads:
            self.unauthorized(_by_hand(head, claims, SECRET))

    def test_more_claims_than_ours(self) -> None:
        """A token that looks like ours, and is for later or for others, is refused all the same."""
        claims: dict[str, Any] = {
            "user_id": "alice",
            "key": self.user.public_key,
            "iat": int(NOW),
            "exp": int(NOW + DAY),
        }
        self.assertEqual(self.accounts.authenticate(self.signed(claims), NOW), self.user)
        for more in (
            {"nbf": 2**40},
            {"nbf": "x"},
            {"aud": "others"},
            {"exp": "soon"},
            {"key": "x"},
        ):
            self.unauthorized(self.signed(claims | more))

    def test_other_secret(self) -> None:
        """A token of another server is refused."""
        self.unauthorized(self.signed({"user_id": "alice", "exp": NOW + DAY}, SECRET[::-1]))

    def test_missing_claims(self) -> None:
        """Without its end or its user a token is nothing."""
        for claims in ({}, {"user_id": "alice"}, {"exp": NOW + DAY}):
            self.unauthorized(self.signed(claims))

    def test_wrong_types(self) -> None:
        """Claims of other types are refused, not stumbled over."""
        for name, value in (
            ("exp", "soon"), ("exp", None), ("exp", [NOW + DAY]), ("exp", {}), ("exp", 10**400),
            ("user_id", 1), ("user_id", None), ("user_id", ["alice"]), ("user_id", {"a": 1}),
        ):  # fmt: skip
            self.unauthorized(self.signed({"user_id": "alice", "exp": NOW + DAY, name: value}))

    def test_junk(self) -> None:
        """Anything else is refused."""
        nested = base64.urlsafe_b64encode(b"[" * 100_000).decode()
        for token in ("", ".", "..", "junk", "é.é.é", "\ufffd", f"{nested}.{nested}.x"):
            self.unauthorized(token)

    def test_user_gone(self) -> None:
        """A token whose user is gone is refused."""
        del self.accounts.users["alice"]
        self.unauthorized(self.token)


class OperatorTests(_AccountsTests):
    """Users whom an operator has changed."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.register()

    def change(self, **values: Any) -> None:
        self.accounts.changed("alice", msgspec.structs.replace(self.alice, **values))

    def login(self, now: float) -> str:
        challenge = self.accounts.challenge("alice", now)
        return self.accounts.login("alice", self.key.sign(challenge), now).token

    def test_disabled(self) -> None:
        """Who is disabled gets no challenge, no token, and nothing for those they have."""
        token = self.login(NOW)
        challenge = self.accounts.challenge("alice", NOW)
        self.change(disabled_at=NOW)
        for function, arguments in (
            (self.accounts.challenge, ("alice",)),
            (self.accounts.login, ("alice", self.key.sign(challenge))),
            (self.accounts.authenticate, (token,)),
        ):
            text = self.refused(HTTPStatus.FORBIDDEN, function, *arguments, NOW)
            self.assertEqual(text, "The account is disabled.")
        self.change(disabled_at=None)
        self.assertEqual(self.accounts.authenticate(token, NOW).user_id, "alice")

    def test_disabled_is_told_to_nobody_else(self) -> None:
        """A wrong signature is one, whatever an operator did."""
        self.accounts.challenge("alice", NOW)
        self.change(disabled_at=NOW)
        wrong = PrivateKey.generate().sign(b"x")
        self.refused(HTTPStatus.UNAUTHORIZED, self.accounts.login, "alice", wrong, NOW)

    def test_signed_out(self) -> None:
        """Tokens of before, and of the same second, are not good; a new login is."""
        before, same = self.login(NOW), self.login(NOW + 10.2)
        self.change(signed_out_at=NOW + 10.6)
        for token in (before, same):
            self.refused(HTTPStatus.UNAUTHORIZED, self.accounts.authenticate, token, NOW + 11)
        token = self.login(NOW + 11)
        self.assertEqual(self.accounts.authenticate(token, NOW + 11).user_id, "alice")

    def test_changed_while_rotating(self) -> None:
        """New keys that are being stored undo nothing that an operator did meanwhile."""
        for change, disabled_at in ((NOW, NOW), (None, None)):
            self.change(disabled_at=None)
            renewed = msgspec.structs.replace(
                self.accounts.users["alice"], public_key=PrivateKey.generate().public_key
            )
            self.change(disabled_at=change)
            self.accounts._replaced(None, renewed)
            self.assertEqual(self.accounts.users["alice"].disabled_at, disabled_at)
            self.assertEqual(self.accounts.users["alice"].public_key, renewed.public_key)
        self.accounts.changed("alice", None)
        self.refused(HTTPStatus.UNAUTHORIZED, self.accounts._replaced, None, self.alice)
        self.assertNotIn("alice", self.accounts.users)

    def test_gone(self) -> None:
        """Who was removed is nobody, also when they were nobody before."""
        token = self.login(NOW)
        self.accounts.changed("alice", None)
        self.accounts.changed("nobody", None)
        self.refused(HTTPStatus.UNAUTHORIZED, self.accounts.authenticate, token, NOW)
        self.refused(HTTPStatus.NOT_FOUND, self.accounts.user, "alice")


class RotationTests(_AccountsTests):
    """New keys, which the old one vouches for."""

    def setUp(self) -> None:
        super().setUp()
        self.register()
        self.new = PrivateKey.generate()
        self.told: list[str] = []
        self.accounts.rotated = self.told.append

    def wants(
        self, old: PrivateKey | None = None, new: PrivateKey | None = None, **changes: Any
    ) -> rotation.Request:
        at = wire.format_time(NOW + changes.pop("later", 0.0))
        user_id = changes.pop("user_id", "alice")
        step = rotation.rotate(user_id, old or self.key, new or self.new, at)
        return rotation.Request(user_id, msgspec.structs.replace(step, **changes))

    def rotate(self, *keys: PrivateKey, now: float = NOW) -> User:
        return self.successResultOf(self.accounts.rotate(self.wants(*keys), now))

    def status(self, wanted: rotation.Request) -> int:
        error = self.assertRaises(AccountError, self.accounts.rotate, wanted, NOW)
        self.assertNotIn("\n", error.text)
        self.assertEqual((self.told, self.accounts.user("alice").rotations), ([], None))
        return int(error.status)

    def test_rotated(self) -> None:
        """The keys are the new ones, at once and in the store, with the steps to them."""
        first = self.rotate()
        third = PrivateKey.generate()
        second = self.rotate(self.new, third)
        self.assertEqual(self.accounts.user("alice"), second)
        self.assertEqual(self.store.users.all(), [second])
        self.assertEqual(second.public_key, third.public_key)
        self.assertEqual(second.x25519_public_key, third.x25519_public_key)
        steps = rotation.chain(second.rotations)
        self.assertEqual(rotation.follow("alice", self.key.public_key, steps), steps)
        self.assertEqual(steps[:1], rotation.chain(first.rotations))
        self.assertEqual((len(steps), self.told), (2, ["alice", "alice"]))

    def test_login(self) -> None:
        """Challenges are for the new key, those that were asked before as well."""
        before = self.accounts.challenge("alice", NOW)
        self.rotate()
        signature = self.key.sign(before)
        error = self.assertRaises(AccountError, self.accounts.login, "alice", signature, NOW)
        self.assertEqual(error.status, 401)
        self.assertTrue(self.accounts.login("alice", self.new.sign(before), NOW).token)

    def test_tokens(self) -> None:
        """A token that was given for the old key is not valid any more; a new one is."""
        challenge = self.accounts.challenge("alice", NOW)
        old = self.accounts.login("alice", self.key.sign(challenge), NOW).token
        self.accounts.authenticate(old, NOW)
        self.rotate()
        error = self.assertRaises(AccountError, self.accounts.authenticate, old, NOW)
        self.assertIn("earlier key", error.text)
        challenge = self.accounts.challenge("alice", NOW)
        token = self.accounts.login("alice", self.new.sign(challenge), NOW).token
        self.assertEqual(self.accounts.authenticate(token, NOW).user_id, "alice")
        claims = {"user_id": "alice", "exp": NOW + 60}  # of no key, as before there were new ones
        of_none = jwt.encode(claims, SECRET, "HS256")
        self.assertRaises(AccountError, self.accounts.authenticate, of_none, NOW)

    def test_refused(self) -> None:
        """Only the present key's owner has new ones, with a proof, and now."""
        stranger = PrivateKey.generate()
        for status, wanted in (
            (401, self.wants(user_id="nobody")),
            (409, self.wants(stranger)),
            (401, self.wants(signature=stranger.sign(b""))),
            (401, self.wants(proof=stranger.sign(b""))),
            (401, self.wants(public_key=stranger.public_key)),
            (400, self.wants(later=301.0)),
            (400, self.wants(later=-301.0)),
            (400, self.wants(new=self.key)),
        ):
            self.assertEqual(self.status(wanted), status, wanted)

    def test_keys_that_are_none(self) -> None:
        """What is no key is refused, though somebody signed it."""
        for name in ("public_key", "x25519_public_key"):
            step = msgspec.structs.replace(self.wants().step, **{name: "no key"})
            said = rotation.statement("alice", step)
            signed = {"signature": self.key.sign(said), "proof": self.new.sign(said)}
            step = msgspec.structs.replace(step, **signed)
            wanted = 401 if name == "public_key" else 400  # nobody proves to have the one
            self.assertEqual(self.status(rotation.Request("alice", step)), wanted)
        step = msgspec.structs.replace(self.wants().step, time="now")
        said = rotation.statement("alice", step)
        signed = {"signature": self.key.sign(said), "proof": self.new.sign(said)}
        step = msgspec.structs.replace(step, **signed)
        self.assertEqual(self.status(rotation.Request("alice", step)), 400)

    def test_never_back(self) -> None:
        """A key that was the user's before is not again."""
        self.rotate()
        back = self.wants(self.new, self.key)
        error = self.assertRaises(AccountError, self.accounts.rotate, back, NOW)
        self.assertIn("before", error.text)

    def test_somebody_was_first(self) -> None:
        """Of two that are asked for at once, one is refused."""
        other = self.wants(new=PrivateKey.generate())
        user = self.accounts.user("alice")
        self.rotate()
        self.accounts.users["alice"] = user  # as it was when the other was looked at
        failure = self.failureResultOf(self.accounts.rotate(other, NOW), AccountError)
        self.assertEqual(failure.value.status, 409)
        self.assertEqual(self.store.users.all()[0].public_key, self.new.public_key)

    def test_too_many(self) -> None:
        """A chain is not made longer than everybody wants to read."""
        self.patch(accounts, "_MAX_ROTATIONS", 1)
        self.rotate()
        more = self.wants(self.new, PrivateKey.generate())
        error = self.assertRaises(AccountError, self.accounts.rotate, more, NOW)
        self.assertIn("too many", error.text)
