"""Trying a call again: which failures pass, and how long to wait before the next try.

In: a coroutine function that raises `Transient` for a failure that may pass. Out: its result, or `BackboneError` when
the last try failed too. Randomness and sleep are handed in, so that nothing here depends on a clock or on global
state.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

from metamem.core.errors import BackboneError

T = TypeVar("T")

RETRIED = frozenset({408, 409, 429})
AWAY = frozenset({502, 503, 504})  # said by whoever stands before a server that is gone or starting
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
_ROUNDS = 2  # times that a server's return begins the tries of one call anew
LONGEST_RETRY_AFTER = 300.0  # a server that asks for more is tried earlier: an hour's silence would look like a hang


class Transient(Exception):
    """A try failed in a way that may pass; `retry_after` is the wait that the server asked for, in seconds.

    `away`: nobody answered, or somebody in the server's place.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, away: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.away = away


def passes(status: int) -> bool:
    """Tell whether an HTTP status may be another one on the next try: 408, 409, 429 and 5xx."""
    return status in RETRIED or status >= 500


def wait(failed: int, rng: random.Random, retry_after: float | None = None) -> float:
    """Return the seconds to wait after `failed` failed tries.

    Exponential backoff with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
    uniform between 0 and 0.5 s doubled with each try, at most 30 s. A server's Retry-After is waited out first.
    """
    jitter = rng.uniform(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failed - 1, 16)))
    return jitter + min(max(retry_after or 0.0, 0.0), LONGEST_RETRY_AFTER)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in seconds that a response asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.

    `now` is a Unix time. None when there is none or it cannot be read (RFC 9110, section 10.2.3).
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if 0.0 <= seconds < float("inf") else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


async def retrying(
    call: Callable[[], Awaitable[T]],
    retries: int,
    rng: Callable[[], random.Random],
    sleep: Callable[[float], Awaitable[None]],
    failed: Callable[[], None] = lambda: None,
    back: Callable[[str], Awaitable[bool]] | None = None,
) -> T:
    """Return the result of `call`, tried again up to `retries` times after a `Transient`. Other errors go through.

    `rng` is only called after a failure; `failed` is told of each try that will be repeated. `back` is asked when the
    last try found the server away: whether it is back, which begins the tries anew, twice at most. Raises
    `BackboneError` with the last reason and the number of tries.
    """
    tries, rounds, generator = 0, 0, None
    while True:
        tries += 1
        try:
            return await call()
        except Transient as error:
            last = error
        if tries > retries:
            rounds += 1
            # A server that is there again each time is not away: it is this call that it does not answer.
            if back is None or not last.away or rounds > _ROUNDS or not await back(last.reason):
                told = last.reason if tries == 1 else f"{last.reason} ({tries} tries)"
                raise BackboneError(told, passing=True)
            tries = 0
            continue
        failed()
        generator = generator or rng()
        await sleep(wait(tries, generator, last.retry_after))
