"""Token buckets; rates and times are multiples of 1/8, so that floats are exact."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wschat.limits import KeyedLimiter, Occupancy, TokenBucket

EIGHTHS = st.integers(1, 400).map(lambda number: number / 8)
STEPS = st.lists(st.integers(0, 80).map(lambda number: number / 8), min_size=1, max_size=60)


def allowed(bucket: TokenBucket, now: float, tries: int) -> int:
    """How many of so many tries at once are allowed."""
    return sum(bucket.allow(now) for _ in range(tries))


class TokenBucketTests(SynchronousTestCase):
    """`burst` at once, `rate` a second after that."""

    def test_burst(self) -> None:
        """A new bucket is full, whatever the clock says."""
        for start in (-5.0, 0.0, 1e9):
            self.assertEqual(allowed(TokenBucket(10, 20), start, 50), 20)

    def test_rate(self) -> None:
        """It fills at its rate, fractions included."""
        bucket = TokenBucket(4, 8)
        self.assertEqual(allowed(bucket, 0.0, 50), 8)
        self.assertEqual(
            [allowed(bucket, now, 50) for now in (0.125, 0.25, 0.375, 1.0)], [0, 1, 0, 3]
        )

    def test_never_over_full(self) -> None:
        """A long silence saves up no more than a burst."""
        bucket = TokenBucket(4, 8)
        allowed(bucket, 0.0, 50)
        self.assertEqual(allowed(bucket, 1e6, 50), 8)

    def test_refused_costs_nothing(self) -> None:
        """Whoever tries too often is not put back for it."""
        bucket = TokenBucket(1, 1)
        allowed(bucket, 0.0, 1000)
        self.assertTrue(bucket.allow(1.0))

    def test_backwards(self) -> None:
        """A clock that steps back gives nothing, and takes nothing for ever."""
        bucket = TokenBucket(1, 2)
        self.assertEqual(allowed(bucket, 100.0, 5), 2)
        self.assertEqual(allowed(bucket, 50.0, 5), 0)
        self.assertEqual(allowed(bucket, 51.0, 5), 1)

    def test_wait(self) -> None:
        """Nothing to wait for, then the time until a whole token is there."""
        bucket = TokenBucket(4, 2)
        self.assertEqual(bucket.wait(0.0), 0)
        allowed(bucket, 0.0, 2)
        self.assertEqual([bucket.wait(now) for now in (0.0, 0.125, 0.25, 9.0)], [0.25, 0.125, 0, 0])

    def test_full(self) -> None:
        """Full at first, not when a token was taken, and again when it is back."""
        bucket = TokenBucket(4, 2)
        self.assertTrue(bucket.full(0.0))
        bucket.allow(0.0)
        self.assertEqual(
            [bucket.full(now) for now in (0.0, 0.125, 0.25, 1.0)], [False, False, True, True]
        )

    @settings(deadline=None)
    @given(EIGHTHS, st.integers(1, 50), STEPS)
    def test_bound(self, rate: float, burst: int, steps: list[float]) -> None:
        """In no span of time is more allowed than `burst` and `rate` times its length."""
        bucket = TokenBucket(rate, burst)
        now, counts = 0.0, []
        for step in steps:
            now += step
            counts.append((now, allowed(bucket, now, 100)))
        for first, (start, _) in enumerate(counts):
            total = 0
            for end, count in counts[first:]:
                total += count
                self.assertLessEqual(total, burst + rate * (end - start))

    @settings(deadline=None)
    @given(EIGHTHS, st.integers(1, 50), STEPS)
    def test_no_less(self, rate: float, burst: int, steps: list[float]) -> None:
        """And whoever always tries gets all of it: a burst, and what the rate makes of the time."""
        bucket = TokenBucket(rate, burst)
        total, now = allowed(bucket, 0.0, 100), 0.0
        for step in steps:
            short = min(step, (burst - 1) / rate)  # so that the bucket never overflows
            now += short
            total += allowed(bucket, now, 100)
        self.assertGreater(total, burst + rate * now - 1 - 1e-6)

    @settings(deadline=None)
    @given(EIGHTHS, st.integers(1, 5), st.floats(0, 1e6), st.floats(0, 1))
    def test_wait_is_enough(self, rate: float, burst: int, start: float, later: float) -> None:
        """After the wait a try is allowed, not before; a microsecond is left to the floats."""
        bucket = TokenBucket(rate, burst)
        allowed(bucket, start, burst)
        wait = bucket.wait(start + later)
        if wait > 1e-5:
            self.assertFalse(bucket.allow(start + later + wait - 1e-5))
        self.assertTrue(bucket.allow(start + later + wait + 1e-6))


class SetTests(SynchronousTestCase):
    """Limits that change."""

    def test_set(self) -> None:
        """From then on the new ones hold, for keys that are known as well."""
        limiter = KeyedLimiter(1, 1)
        self.assertTrue(limiter.allow("a", 0))
        self.assertFalse(limiter.allow("a", 0))
        limiter.set(10, 3)
        self.assertEqual([limiter.allow("a", 0) for _ in range(4)], [True, True, True, False])
        self.assertAlmostEqual(limiter.wait("a", 0), 0.1)
        limiter.set(1, 1)
        self.assertEqual([limiter.allow("a", 0) for _ in range(2)], [True, False])


class KeyedLimiterTests(SynchronousTestCase):
    """A bucket for each key."""

    def test_apart(self) -> None:
        """One key's use is not another's."""
        limiter = KeyedLimiter(1, 2)
        taken = [limiter.allow(key, 0.0) for key in ("a", "a", "a", "b", ("c", 1))]
        self.assertEqual(taken, [True, True, False, True, True])
        self.assertEqual(limiter.wait("a", 0.0), 1.0)
        self.assertEqual([limiter.wait(key, 0.0) for key in ("b", "new")], [0, 0])

    def test_time(self) -> None:
        """Each key's bucket fills again."""
        limiter = KeyedLimiter(0.5, 1)
        taken = [limiter.allow("a", now) for now in (0.0, 1.0, 2.0)]
        self.assertEqual(taken, [True, False, True])

    def test_forgets(self) -> None:
        """A million keys that came once do not stay: at most the sweep's smallest size does."""
        limiter = KeyedLimiter(1, 1)
        most = 0
        for key in range(20_000):
            limiter.allow(key, key * 10.0)
            most = max(most, len(limiter))
        self.assertLessEqual(most, 1024)

    def test_remembers(self) -> None:
        """Keys that are short of tokens are not forgotten, however many there are."""
        limiter = KeyedLimiter(1, 1)
        for key in range(5000):
            limiter.allow(key, 0.0)
        self.assertEqual(len(limiter), 5000)
        self.assertEqual(sum(limiter.allow(key, 0.5) for key in range(5000)), 0)

    def test_forgetting_changes_nothing(self) -> None:
        """A sweep keeps who must wait, and drops who need not."""
        limiter = KeyedLimiter(1, 2)
        for key in range(1023):
            limiter.allow(key, 0.0)
        limiter.allow("slow", 10.0)
        limiter.allow("slow", 10.0)
        limiter.allow("new", 10.0)
        self.assertEqual(len(limiter), 2)
        self.assertFalse(limiter.allow("slow", 10.0))

    def test_rarely(self) -> None:
        """It does not look again before it has doubled, so that looking stays cheap."""
        limiter = KeyedLimiter(1, 1)
        for key in range(1025):
            limiter.allow(key, 0.0)
        for key in range(1025, 2048):
            limiter.allow(key, 100.0)
        self.assertEqual(len(limiter), 2048)
        limiter.allow(2048, 200.0)
        self.assertEqual(len(limiter), 1)


class OccupancyTests(SynchronousTestCase):
    """So many at once."""

    def test_each(self) -> None:
        """A key has its share, and gets it back; no other key is concerned."""
        places = Occupancy(2, 100)
        places.enter("a")
        places.enter("a")
        self.assertEqual((places.room("a"), places.room("b")), (False, True))
        places.leave("a")
        self.assertTrue(places.room("a"))
        self.assertEqual(len(places), 1)

    def test_everybody(self) -> None:
        """When all is taken there is no room for anybody."""
        places = Occupancy(2, 3)
        for key in ("a", "b", None):
            places.enter(key)
        self.assertEqual([places.room(key) for key in ("a", "c", None)], [False] * 3)

    def test_without_a_key(self) -> None:
        """What has no key has a share of all alone."""
        places = Occupancy(1, 100)
        for _ in range(50):
            self.assertTrue(places.room(None))
            places.enter(None)
        self.assertTrue(places.room("a"))

    def test_nothing_is_kept(self) -> None:
        """Keys that have gone leave nothing."""
        places = Occupancy(1, 10)
        for number in range(1000):
            self.assertTrue(places.room(number))
            places.enter(number)
            places.leave(number)
            places.room(number)
        self.assertEqual((len(places), len(places._by_key)), (0, 0))
