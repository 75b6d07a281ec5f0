"""Who came and who went, told once for all that happens close together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.presence import Change, Presence


class ChangeTests(SynchronousTestCase):
    """A piece of news."""

    def test_only(self) -> None:
        """The part about some users; those who did nothing are not in it."""
        change = Change(["alice", "bob"], {"charlie": 1.0, "david": 2.0})
        part = change.only(frozenset({"bob", "david", "bot"}))
        self.assertEqual(part, Change(["bob"], {"david": 2.0}))
        self.assertEqual(change.only(frozenset()), Change([], {}))


class PresenceTests(SynchronousTestCase):
    """Those who watch, and what they are told."""

    def setUp(self) -> None:
        self.presence: Presence[str] = Presence({"david": 50.0})

    def changes(self) -> list[tuple[Change, list[str]]]:
        return list(self.presence.changes())

    def test_nothing(self) -> None:
        """With nobody coming or going there is nothing to tell."""
        self.presence.watch("w", None)
        self.assertEqual(self.changes(), [])

    def test_came(self) -> None:
        """Whoever watches all is told who came, once."""
        self.presence.watch("w1", None)
        self.presence.watch("w2", None)
        self.presence.came("alice")
        self.assertEqual(self.changes(), [(Change(["alice"], {}), ["w1", "w2"])])
        self.assertEqual(self.changes(), [])

    def test_went(self) -> None:
        """Who went is told with the time."""
        self.presence.watch("w", None)
        self.presence.went("alice", 100.0)
        self.assertEqual(self.changes(), [(Change([], {"alice": 100.0}), ["w"])])

    def test_together(self) -> None:
        """What happens close together is one piece of news."""
        self.presence.watch("w", None)
        self.presence.came("alice")
        self.presence.went("charlie", 100.0)
        self.presence.came("bob")
        expected = Change(["alice", "bob"], {"charlie": 100.0})
        self.assertEqual(self.changes(), [(expected, ["w"])])

    def test_asked_for_soon(self) -> None:
        """The first to come or go says that the news is to be told; those after it do not."""
        found = [self.presence.came("alice"), self.presence.went("bob", 1.0)]
        self.assertEqual([*found, self.presence.came("bob")], [True, False, False])
        self.changes()
        self.assertEqual([self.presence.went("alice", 2.0), self.presence.came("x")], [True, False])

    def test_came_back(self) -> None:
        """Who goes and comes back before the news is told is no news."""
        self.presence.watch("w", None)
        self.presence.watch("named", ["alice"])
        self.presence.went("alice", 100.0)
        self.presence.came("alice")
        self.assertEqual(self.changes(), [])

    def test_passed_by(self) -> None:
        """Nor is who comes and goes again."""
        self.presence.watch("w", None)
        self.presence.came("alice")
        self.presence.went("alice", 100.0)
        self.assertEqual(self.changes(), [])
        self.assertEqual(self.presence.last_seen["alice"], 100.0)

    def test_back_and_away(self) -> None:
        """Of many comings and goings, the last counts, with its time."""
        self.presence.watch("w", None)
        self.presence.went("alice", 100.0)
        self.presence.came("alice")
        self.presence.went("alice", 103.0)
        self.assertEqual(self.changes(), [(Change([], {"alice": 103.0}), ["w"])])

    def test_back_later(self) -> None:
        """After the news was told, a return is news again."""
        self.presence.watch("w", None)
        self.presence.went("alice", 100.0)
        self.changes()
        self.presence.came("alice")
        self.assertEqual(self.changes(), [(Change(["alice"], {}), ["w"])])

    def test_named(self) -> None:
        """Who watches some users is told of those, and of nobody else."""
        self.presence.watch("of alice", ["alice", "bob"])
        self.presence.watch("of david", ["david"])
        self.presence.watch("of nobody", [])
        self.presence.watch("w", None)
        self.presence.came("alice")
        self.presence.went("charlie", 100.0)
        self.assertEqual(
            self.changes(),
            [
                (Change(["alice"], {"charlie": 100.0}), ["w"]),
                (Change(["alice"], {}), ["of alice"]),
            ],
        )

    def test_watch_again(self) -> None:
        """Watching again takes the place of what was watched before."""
        self.presence.watch("w", None)
        self.presence.watch("w", ["bob"])
        self.presence.came("alice")
        self.assertEqual(self.changes(), [])

    def test_unwatch(self) -> None:
        """Who watches no more is told no more; a stranger is no error."""
        self.presence.watch("w", None)
        self.presence.unwatch("w")
        self.presence.unwatch("stranger")
        self.presence.came("alice")
        self.assertEqual(self.changes(), [])

    def test_began_meanwhile(self) -> None:
        """
        Who began to watch between two changes saw what did not last, and is told what is so.

        The others are not: to them, nothing happened.
        """
        self.presence.watch("before", None)
        self.presence.went("alice", 100.0)
        self.presence.came("bob")
        self.presence.watch("all", None)
        self.presence.watch("of alice", ["alice"])
        self.presence.came("alice")
        self.presence.went("bob", 101.0)
        self.assertEqual(
            self.changes(),
            [
                (Change(["alice"], {"bob": 101.0}), ["all"]),
                (Change(["alice"], {}), ["of alice"]),
            ],
        )
        self.presence.went("alice", 102.0)
        expected = Change([], {"alice": 102.0})
        self.assertEqual(self.changes(), [(expected, ["before", "all"]), (expected, ["of alice"])])

    def test_began_and_ended_meanwhile(self) -> None:
        """Who watches no more is not told of that either."""
        self.presence.went("alice", 100.0)
        self.presence.watch("w", None)
        self.presence.unwatch("w")
        self.presence.came("alice")
        self.assertEqual(self.changes(), [])

    def test_last_seen(self) -> None:
        """Those who went before are remembered; the newest time counts."""
        self.presence.went("alice", 100.0)
        self.presence.went("david", 101.0)
        self.assertEqual(self.presence.last_seen, {"alice": 100.0, "david": 101.0})

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(["alice", "bob", "charlie", "tell", "watch"]), max_size=40))
    def test_model(self, steps: list[str]) -> None:
        """
        Who believes what they are told knows, after each time, who is there.

        Whenever they begin to watch, with what is so at that moment; and one
        who watched all the time is told nothing that they know.
        """
        presence: Presence[int] = Presence({})
        presence.watch(0, None)
        there: set[str] = set()
        believed: dict[int, set[str]] = {0: set()}
        for now, step in enumerate([*steps, "tell"]):
            if step == "watch":
                believed[now + 1] = set(there)
                presence.watch(now + 1, None)
            elif step == "tell":
                for change, watchers in presence.changes():
                    if 0 in watchers:
                        self.assertEqual(believed[0] & set(change.joined), set())
                        self.assertEqual(set(change.left) - believed[0], set())
                    for w in watchers:
                        believed[w] = (believed[w] | set(change.joined)) - change.left.keys()
                self.assertEqual([b for b in believed.values() if b != there], [])
            elif step in there:
                presence.went(step, float(now))
                there.remove(step)
            else:
                presence.came(step)
                there.add(step)
