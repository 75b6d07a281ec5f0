"""Tests of `wschat.stream`: everybody's place in the stream, pages, and what is kept no longer."""

from __future__ import annotations

from tests.stores import OnFile, OnPostgreSQL, StoreTests, named
from tests.support import NOW, make_message
from wschat import stream

DAY = 86400.0


class PlaceTests(StoreTests):
    """Where sessions go on."""

    def setUp(self) -> None:
        super().setUp()
        self.add_users("alice", "bob")

    def test_unknown_user(self) -> None:
        """Who is not registered has position 0, and does not get one."""
        self.move("ghost", 5)
        self.assertEqual(self.start("ghost"), stream.Start(0, True, 0, known=False))

    def test_moves_forward_only(self) -> None:
        """A place that is told to go back stays, a session's too."""
        self.fill(9)
        for position, expected in ((5, 5), (3, 5), (5, 5), (9, 9)):
            self.move("bob", position, "phone")
            self.assertEqual(self.start("bob", "phone"), stream.Start(expected, True, expected))

    def test_each_has_their_own(self) -> None:
        """Several places move in one commit with messages, each to its own."""
        self.fill(4)
        self.append(
            make_message("alice", "bob", "hi"),
            places={("alice", None): 1, ("bob", None): 4, ("alice", "phone"): 2, ("bob", "pad"): 3},
        )
        self.assertEqual((self.cursor("alice"), self.cursor("bob")), (1, 4))
        self.assertEqual(self.start("alice", "phone").position, 2)
        self.assertEqual(self.start("bob", "pad").position, 3)
        self.assertEqual(self.start("bob", "phone").position, 4)  # it is alice's, not bob's

    def test_registration_is_after_what_is_stored(self) -> None:
        """Who registers has no part in what was said before, whatever they say that they have."""
        self.fill(3, topic="broadcast")
        self.add_users("charlie")
        for after in (None, 0, 2, 3):
            self.assertEqual(
                self.start("charlie", "phone", after),
                stream.Start(3, True, 3, known=after is not None),
            )

    def test_registration_after_all_has_expired(self) -> None:
        """Nor in what was said before and is not kept any more."""
        self.fill(3)
        self.move("bob", 3)
        self.expire(NOW + 1)
        self.add_users("charlie")
        self.assertEqual(self.start("charlie"), stream.Start(3, True, 3, known=False))

    def test_new_session(self) -> None:
        """A session that is new begins with what its user has not read with any other."""
        self.fill(3)
        self.move("bob", 2, "pad")
        self.assertEqual(self.start("bob", "phone"), stream.Start(2, True, 2, known=False))
        self.assertEqual(self.start("bob"), stream.Start(2, True, 2, known=False))

    def test_known_session(self) -> None:
        """A session goes on where it was, however far the user's others are."""
        self.fill(3)
        self.move("bob", 1, "phone")
        self.move("bob", 3, "pad")
        self.assertEqual(self.start("bob", "phone"), stream.Start(1, True, 3))

    def test_the_clients_word(self) -> None:
        """A client that says what it has goes on from there, though its user has read more."""
        self.fill(3)
        self.move("bob", 2)
        for after in (0, 1, 3):
            self.assertEqual(self.start("bob", "phone", after), stream.Start(after, True, 2))

    def test_the_further_of_both(self) -> None:
        """Of what a session has acknowledged and what its client says, the further counts."""
        self.fill(3)
        self.move("bob", 2, "phone")
        for after, expected in ((0, 2), (2, 2), (3, 3)):
            self.assertEqual(self.start("bob", "phone", after).position, expected)

    def test_beyond_the_head(self) -> None:
        """
        A client that says that it has more than there is is told, and not believed.

        The database has been set back: what is here now it has not seen.
        """
        self.fill(3)
        for after in (4, 2**63 - 1):
            expected = stream.Start(0, False, 0, known=False)
            self.assertEqual(self.start("bob", "phone", after), expected)
        self.move("bob", 2, "phone")
        self.assertEqual(self.start("bob", "phone", 4), stream.Start(2, False, 2))

    def test_a_session_is_known_once_it_has_moved(self) -> None:
        """To ask where a session goes on leaves no trace."""
        self.fill(3)
        self.start("bob", "phone", 1)
        self.move("bob", 2)
        self.assertEqual(self.start("bob", "phone").position, 2)

    def test_incomplete(self) -> None:
        """A session is told when some of what it has not had is not kept any more."""
        self.fill(3)
        self.move("bob", 1, "phone", now=NOW + 1)
        self.move("bob", 3)
        self.expire(NOW + 1)
        self.assertEqual(self.start("bob", "phone"), stream.Start(1, False, 3))
        self.assertEqual(self.start("bob", "phone", 2), stream.Start(2, False, 3))
        self.assertEqual(self.start("bob", "phone", 3), stream.Start(3, True, 3))
        self.assertEqual(self.start("bob", "new"), stream.Start(3, True, 3, known=False))

    def test_complete_without_others(self) -> None:
        """What others have lost makes nobody's resume incomplete; a broadcast makes everybody's."""
        self.fill(3)
        self.move("bob", 3)
        self.expire(NOW + 1)
        self.assertTrue(self.start("alice", "phone", 0).complete)
        self.fill(1, topic="broadcast")
        self.move("alice", 4)
        self.move("bob", 4)
        self.expire(NOW + 1)
        self.assertFalse(self.start("alice", "phone", 0).complete)


class PlaceFileTests(OnFile, PlaceTests):
    pass


class PlacePostgreSQLTests(OnPostgreSQL, PlaceTests):
    pass


class PageTests(StoreTests):
    """What a user has not had yet."""

    def test_inbox_and_broadcasts_in_order(self) -> None:
        """A user's direct messages and others' broadcasts come together, by id."""
        self.append(
            make_message("alice", "bob", "1"),
            make_message("alice", "broadcast", "2"),
            make_message("charlie", "bob", "3"),
            make_message("charlie", "broadcast", "4"),
        )
        self.assertEqual(self.contents("bob"), ["1", "2", "3", "4"])

    def test_nobody_elses(self) -> None:
        """Neither others' direct messages nor a user's own broadcasts are in it."""
        self.append(
            make_message("bob", "broadcast", "own broadcast"),
            make_message("alice", "charlie", "for charlie"),
            make_message("bob", "alice", "for alice"),
        )
        self.assertEqual(self.contents("bob"), [])

    def test_own_direct_message(self) -> None:
        """A message to oneself is in one's inbox."""
        self.append(make_message("bob", "bob", "note"))
        self.assertEqual(self.contents("bob"), ["note"])

    def test_names_are_exact(self) -> None:
        """Users whose names differ in case only have each their own inbox."""
        self.append(make_message("alice", "bob", "small"), make_message("alice", "Bob", "great"))
        self.assertEqual(self.contents("bob"), ["small"])

    def test_after(self) -> None:
        """Only what comes after the position is read."""
        self.fill(4)
        self.assertEqual(self.contents("bob", after=2), ["2", "3"])
        self.assertEqual(self.contents("bob", after=4), [])

    def test_pages_follow_each_other(self) -> None:
        """Page after page, a user gets everything once, in order, across both topics."""
        self.append(
            *(make_message("alice", ("bob", "broadcast")[n % 3 == 0], str(n)) for n in range(10))
        )
        seen, after, sizes = [], 0, []
        for _ in range(4):
            page = self.page("bob", after, limit=3)
            seen += [message.content for message in page.messages]
            sizes.append((len(page.messages), page.complete))
            after = page.messages[-1].id
        self.assertEqual(seen, [str(n) for n in range(10)])
        self.assertEqual(sizes, [(3, False), (3, False), (3, False), (1, True)])

    def test_full_page_is_not_complete(self) -> None:
        """A page that is full may not be the last; the one after it is empty and complete."""
        self.fill(3)
        self.assertFalse(self.page("bob", limit=3).complete)
        self.assertEqual(self.page("bob", after=3, limit=3), stream.Page([], 3, True))

    def test_head(self) -> None:
        """The head is the newest message of all, whoever it is for."""
        self.assertEqual(self.page("bob"), stream.Page([], 0, True))
        self.fill(2, topic="charlie")
        self.assertEqual(self.page("bob"), stream.Page([], 2, True))

    def test_default_limit(self) -> None:
        """A page has at most `PAGE_MESSAGES` messages unless told."""
        self.fill(stream.PAGE_MESSAGES + 1)
        page = self.successResultOf(self.store.stream.page("bob", 0))
        self.assertEqual(len(page.messages), stream.PAGE_MESSAGES)


class PageFileTests(OnFile, PageTests):
    pass


class PagePostgreSQLTests(OnPostgreSQL, PageTests):
    pass


class ExpiryTests(StoreTests):
    """What is kept no longer."""

    offline_limit = 2

    def setUp(self) -> None:
        super().setUp()
        self.add_users("alice", "bob", "charlie")

    def kept(self, user_id: str = "bob") -> list[int]:
        return [message.id for message in self.page(user_id).messages]

    def test_acknowledged(self) -> None:
        """Direct messages go when their recipient has acknowledged them; the others stay."""
        self.fill(4)
        self.fill(1, topic="charlie")
        self.move("bob", 3)
        self.assertEqual(self.expire(NOW + 1), 3)
        self.assertEqual((self.kept(), self.kept("charlie")), ([4], [5]))

    def test_not_by_others(self) -> None:
        """What others have acknowledged, the sender too, does not count."""
        self.fill(2)
        self.move("alice", 2)
        self.move("charlie", 2)
        self.assertEqual(self.expire(NOW + 1), 0)

    def test_nobodys(self) -> None:
        """A message for somebody who is not registered stays."""
        self.fill(1, topic="ghost")
        self.assertEqual(self.expire(NOW + 1), 0)

    def test_young(self) -> None:
        """What was stored at the time or later stays."""
        for n in range(4):
            self.fill(1, now=NOW + n)
        self.move("bob", 4)
        self.assertEqual(self.expire(NOW + 2), 2)
        self.assertEqual(self.kept(), [3, 4])

    def test_clock_set_back(self) -> None:
        """Whatever the clock did: nothing goes before its time, and all that is old in the end."""
        for n in (100, 101, 0, 1, 200, 201, 50):
            self.fill(1, now=NOW + n)
        self.move("bob", 7)
        self.expire(NOW + 60)
        self.assertLessEqual({1, 2, 5, 6}, set(self.kept()))
        self.expire(NOW + 300)
        self.assertEqual(self.kept(), [])

    def test_broadcast_that_everybody_has(self) -> None:
        """A broadcast goes when every user has acknowledged it."""
        self.fill(2, topic="broadcast")
        for user_id in ("alice", "bob"):
            self.move(user_id, 2)
        self.assertEqual(self.expire(NOW + 1), 0)
        self.move("charlie", 1)
        self.assertEqual(self.expire(NOW + 1), 1)
        self.assertEqual(self.kept("bob"), [2])

    def test_newest_broadcasts(self) -> None:
        """For whoever is away, the newest broadcasts are kept, as many as may wait for a user."""
        self.fill(3, topic="broadcast")
        self.fill(3)  # direct messages are not counted
        self.fill(2, topic="broadcast")
        self.assertEqual(self.expire(NOW + 1), 3)
        self.assertEqual(self.kept(), [4, 5, 6, 7, 8])
        self.assertEqual(self.expire(NOW + 1), 0)
        self.assertEqual(self.start("bob"), stream.Start(0, False, 0, known=False))

    def test_too_many_young_broadcasts(self) -> None:
        """Broadcasts are kept for the retention, however many there are."""
        self.fill(9, topic="broadcast")
        self.assertEqual(self.expire(NOW), 0)

    def test_batches(self) -> None:
        """One call removes a batch, the oldest; a full one says that there may be more."""
        self.patch(stream, "EXPIRY_BATCH", 2)
        self.fill(5)
        self.move("bob", 5)
        for removed, kept in ((2, [3, 4, 5]), (2, [5]), (1, []), (0, [])):
            self.assertEqual(self.expire(NOW + 1), removed)
            self.assertEqual(self.kept(), kept)

    def test_batches_pass_what_stays(self) -> None:
        """What stays does not keep what comes after it from being removed."""
        self.patch(stream, "EXPIRY_BATCH", 2)
        self.fill(4, topic="charlie")
        self.fill(3)
        self.move("bob", 7)
        steps = [stream.Expired(0, 0, more=True)]
        while steps[-1].more:
            expiring = self.store.stream.expire(NOW + 1, steps[-1].through)
            steps.append(self.successResultOf(expiring))
        expected = [stream.Expired(2, 6, more=True), stream.Expired(1, 7, more=False)]
        self.assertEqual((steps[1:], self.kept("charlie")), (expected, [1, 2, 3, 4]))

    def test_ids_are_never_given_again(self) -> None:
        """Once all has expired, the head is where it was, and new messages come after it."""
        self.fill(3)
        self.move("bob", 3)
        self.expire(NOW + 1)
        self.assertEqual(self.page("bob"), stream.Page([], 3, True))
        self.assertEqual(self.fill(1), [4])
        self.assertEqual(self.start("bob", "phone", 4), stream.Start(4, True, 3))

    def test_client_ids_end(self) -> None:
        """A client id is known as long as its message is kept, and may then be used again."""
        self.append(named("x"))
        self.move("bob", 1)
        self.expire(NOW)
        self.assertEqual(list(self.append(named("x")).ids), [1])
        self.expire(NOW + 1)
        (again,) = self.append(named("x")).ids
        self.assertGreater(again, 1)

    def test_own_broadcasts(self) -> None:
        """Nobody waits for the sender of a broadcast, who never has it."""
        self.fill(2, topic="broadcast")
        for user_id in ("bob", "charlie"):
            self.move(user_id, 1)
        self.assertEqual(self.expire(NOW + 1), 1)
        self.move("bob", 2)
        self.assertEqual(self.expire(NOW + 1), 0)
        self.move("charlie", 2)
        self.assertEqual(self.expire(NOW + 1), 1)


class ExpiryFileTests(OnFile, ExpiryTests):
    pass


class ExpiryPostgreSQLTests(OnPostgreSQL, ExpiryTests):
    pass
