"""The Lua scripts: one verb a file, behind a prelude that is rendered from the core.

Law: the lifecycle table has one home, core/lifecycle.py; what the scripts
obey is rendered from it here, so there is no second copy to keep in step.
"""

from functools import cache
from hashlib import sha1
from importlib.resources import files

from engine.core.lifecycle import FINAL, MOVES
from engine.core.priority import TaskPriority


@cache
def source(verb: str) -> str:
    """The whole text of a verb: tables, prelude, verb."""
    body = _file(verb)
    return "\n".join([*_tables(body), _file("prelude"), body])


@cache
def sha(verb: str) -> str:
    """What EVALSHA calls the verb by."""
    return sha1(source(verb).encode(), usedforsecurity=False).hexdigest()


def verbs() -> list[str]:
    """Every verb there is."""
    names = (entry.name for entry in files(__package__).joinpath("lua").iterdir())
    return sorted(name.removesuffix(".lua") for name in names if name.endswith(".lua") and name != "prelude.lua")


def _file(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _tables(body: str) -> list[str]:
    """The tables that this verb mentions, each as one line of Lua."""
    moves = {f"{status}:{move}": to for status, row in MOVES.items() for move, to in row.items()}
    tables = {
        "MOVES": ", ".join(f"['{pair}'] = '{to}'" for pair, to in moves.items()),
        "STATUSES": ", ".join(f"{status} = true" for status in MOVES),
        "FINAL": ", ".join(f"{status} = true" for status in sorted(FINAL)),
        "PRIORITIES": ", ".join(f"[{int(priority)}] = '{priority.name}'" for priority in TaskPriority),
    }
    return [f"local {name} = {{ {rows} }}" for name, rows in tables.items() if name in body]
