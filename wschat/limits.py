"""How often, and how many at once.  Pure; times are seconds of any steady clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class TokenBucket:
    """Allows `burst` at once and `rate` a second after that."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated: float | None = None

    def _refill(self, now: float) -> None:
        if self._updated is not None and now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now

    def allow(self, now: float, cost: float = 1) -> bool:
        """Take so many tokens, one unless told, if they are there; a full bucket has enough."""
        self._refill(now)
        if self._tokens < min(cost, self._burst):
            return False
        self._tokens -= cost
        return True

    def wait(self, now: float, cost: float = 1) -> float:
        """Seconds until the next `allow` of that cost succeeds; 0 when it would now."""
        self._refill(now)
        return max(0.0, (min(cost, self._burst) - self._tokens) / self._rate)

    def full(self, now: float) -> bool:
        """Whether forgetting this bucket would change nothing."""
        self._refill(now)
        return self._tokens >= self._burst


class KeyedLimiter:
    """
    A token bucket for each key: a user, an address.

    It remembers only keys that are short of tokens, looking for those that
    are not whenever it has grown to twice what it last kept.
    """

    _SMALLEST_SWEEP = 1024

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[Hashable, TokenBucket] = {}
        self._sweep_at = self._SMALLEST_SWEEP

    def __len__(self) -> int:
        return len(self._buckets)

    def set(self, rate: float, burst: float) -> None:
        """From now on, other limits; whoever was short of tokens starts anew."""
        self._rate = rate
        self._burst = burst
        self._buckets.clear()

    def _bucket(self, key: Hashable, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._sweep(now)
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
        return bucket

    def _sweep(self, now: float) -> None:
        self._buckets = {k: b for k, b in self._buckets.items() if not b.full(now)}
        self._sweep_at = max(self._SMALLEST_SWEEP, 2 * len(self._buckets))

    def allow(self, key: Hashable, now: float, cost: float = 1) -> bool:
        """Take so many of `key`'s tokens, one unless told, if they are there."""
        return self._bucket(key, now).allow(now, cost)

    def wait(self, key: Hashable, now: float, cost: float = 1) -> float:
        """Seconds until that is next allowed to `key`; 0 when it would be now."""
        return self._bucket(key, now).wait(now, cost)


class Occupancy:
    """So many at once, of each key and of all; of what has no key, only of all."""

    def __init__(self, each: int, everybody: int) -> None:
        self.each = each
        self.everybody = everybody
        self._count = 0
        self._by_key: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._count

    def room(self, key: Hashable | None) -> bool:
        """Whether there is room for one more of `key`."""
        taken = 0 if key is None else self._by_key[key]
        return self._count < self.everybody and taken < self.each

    def enter(self, key: Hashable | None) -> None:
        """One more of `key` is there."""
        self._count += 1
        if key is not None:
            self._by_key[key] += 1

    def leave(self, key: Hashable | None) -> None:
        """One that entered is gone."""
        self._count -= 1
        if key is not None:
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]
