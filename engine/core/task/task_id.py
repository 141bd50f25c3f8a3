"""Task ids: 19 characters that sort by the time of submission.

    0 1H5RC2K8D 7QZ3V0M4T
    | |         45 random bits, so that no two clients agree by chance
    | milliseconds since 1970, 45 bits
    the shard that keeps the task, so that an id alone says where to look

The alphabet is Crockford's base 32: no I, L, O or U to misread. Nineteen
characters fill Redis's 24-byte allocation for a short string exactly.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 19
SHORT = 6
RANDOM_BITS = 45
SHARDS_MAX = len(ALPHABET)
_DIGITS = 9
_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)  # two digits at once: 4 times as fast
_AS_PYTHON = bytes.maketrans(ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")  # the digits that int() reads
_ID = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")


def encode(number: int) -> str:
    """Nine base-32 digits of a number below 2**45."""
    assert 0 <= number < 1 << RANDOM_BITS, number
    return (ALPHABET[number >> 40] + _PAIRS[number >> 30 & 1023] + _PAIRS[number >> 20 & 1023]
            + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023])


@lru_cache(maxsize=2)
def _head(now_ms: int, shard: int) -> str:
    """Kept, since tasks that come one by one still come several in a millisecond."""
    return ALPHABET[shard] + encode(now_ms)


def task_id(now_ms: int, random_bits: int, shard: int = 0) -> str:
    """The id of a task that is submitted alone: the first of `task_ids`."""
    return _head(now_ms, shard) + encode(random_bits)


def task_ids(now_ms: int, random_bits: int, shard: int = 0) -> Iterator[str]:
    """Endless ids for tasks submitted together: each is greater than the one before.

    `random_bits` is 45 bits of chance, the start of the count within this millisecond.
    """
    head = _head(now_ms, shard)
    while True:
        while random_bits < 1 << RANDOM_BITS:
            body, last = head + encode(random_bits)[:-2], random_bits & 1023
            yield from map(body.__add__, _PAIRS[last:])
            random_bits += 1024 - last
        now_ms, random_bits = now_ms + 1, 0
        head = _head(now_ms, shard)


def created_ms(task_id: str) -> int:
    """When the task was submitted, by Redis's clock."""
    return int(task_id[1 : 1 + _DIGITS].encode().translate(_AS_PYTHON), 32)


def shard(task_id: str) -> int:
    return ALPHABET.index(task_id[0])


def is_task_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def short(task_id: str) -> str:
    """The end of an id, which tells it from the others on a screen: two agree by a chance of one in a billion."""
    return task_id[-SHORT:].lower()
