"""What the imports left in the fork server that its workers do not have whole, in words for people.

`inherited` is as the process host found it: {"threads": {name: count}, "harmless": {name: count},
"sockets": [peer], "modules": [name]}, each only where there is something to tell.
"""

from collections.abc import Mapping
from typing import Any

PAGE = "docs/libraries.md"
_IDLE_SHARE = 0.1  # of a core: a run that used less has hardly used the processor
_NAMES_MAX = 5
_FORK_WORDS = "fork()"  # GNU OpenMP's last words in a forked worker name it


def warnings(inherited: Mapping[str, Any]) -> list[str]:
    """Return a sentence about threads that may make runs hang, and one about connections that are ended; if any."""
    found = []
    where = _where(inherited)
    if threads := threads_text(inherited):
        found.append(f"the imports{where} have started {threads}; a forked worker does not have them, "
                     f"and a task that needs them hangs: see {PAGE}")
    if sockets := sockets_text(inherited):
        found.append(f"the imports{where} have opened {sockets}; in a forked worker they are ended, "
                     f"since tasks would read each other's answers: see {PAGE}")
    return found


def threads_text(inherited: Mapping[str, Any]) -> str:
    """"3 threads (polars)"; empty without threads."""
    threads: Mapping[str, int] = inherited.get("threads") or {}
    total = sum(threads.values())
    return f"{_count(total, 'thread')} ({_listed(list(threads))})" if total else ""


def sockets_text(inherited: Mapping[str, Any]) -> str:
    """"1 connection (to 10.0.0.7:5432)"; empty without connections."""
    sockets: list[str] = inherited.get("sockets") or []
    return f"{_count(len(sockets), 'connection')} (to {_listed(sockets)})" if sockets else ""


def hint(inherited: Mapping[str, Any], cpu_s: float | None, wall_s: float) -> str:
    """What to add to the end of a run that hung: whether the fork may be the reason; empty if it hardly can be."""
    brought = " and ".join(text for text in (threads_text(inherited), sockets_text(inherited)) if text)
    if not brought or cpu_s is None or cpu_s > _IDLE_SHARE * wall_s:
        return ""
    return f"it used {cpu_s:.2f} s of CPU; the imports had brought {brought} before the fork: see {PAGE}"


def last_words(output: str) -> str:
    """What a worker said of the fork before it died, to be added to its end; empty if it said nothing of it."""
    lines = output.strip().splitlines()
    if lines and _FORK_WORDS in lines[-1]:
        return f"its last words: {lines[-1].strip()[:200]} (see {PAGE})"
    return ""


def _where(inherited: Mapping[str, Any]) -> str:
    modules: list[str] = inherited.get("modules") or []
    return f" of {_listed(modules)}" if modules else ""


def _listed(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(names[:_NAMES_MAX]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
