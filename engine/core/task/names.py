"""Names that people type: which are acceptable, and which one was probably meant.

The client checks them at submit and the settings at load; both must agree,
because a queue that one of them refuses could never be served by the other.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from engine.errors import InvalidOption

QUEUE_NAME_LIMIT = "1 to 64 of the characters A-Z a-z 0-9 . _ -"
_QUEUE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHOWN_CHARS_MAX = 80


def is_queue_name(text: object) -> bool:
    return isinstance(text, str) and _QUEUE_NAME.fullmatch(text) is not None


def check_queue_name(text: object, field: str = "queue") -> str:
    """Return `text` if it may be the name of a queue; raise `InvalidOption` that says what may."""
    if isinstance(text, str) and is_queue_name(text):
        return text
    shown = repr(text)[:_SHOWN_CHARS_MAX]
    raise InvalidOption(f"{field} {shown} ({type(text).__name__}) is not a queue name: {QUEUE_NAME_LIMIT}",
                        field=field, value=shown, limit=QUEUE_NAME_LIMIT)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: `; did you mean 'x'?`, or nothing."""
    close = nearest(name, known)
    return f"; did you mean {close!r}?" if close else ""


def types_in_words(unknown: Mapping[str, int], most: int = 5) -> str:
    """Such as "3 of 'thumbnail', 1 of 'mail'": the most numerous first."""
    first = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} of {task_type[:80]!r}" for task_type, count in first[:most]]
    return ", ".join(words) + (f" and of {len(first) - most} more types" if len(first) > most else "")
