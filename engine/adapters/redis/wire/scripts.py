"""The Lua scripts: one verb a file, behind a prelude that is rendered from the core.

Law: the lifecycle table has one home, core/task/lifecycle.py; what the scripts
obey is rendered from it here, so there is no second copy to keep in step.
Of the prelude a verb gets only what it uses.
"""

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files

from engine.core.task.lifecycle import FINAL, MOVES
from engine.core.task.priority import TaskPriority

_DEFINED = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
# What stands in a file of its own, before the verbs that it is a part of.
_PARTS = {"step": ("choose",), "waits": ("choose",)}


@cache
def source(verb: str) -> str:
    """The whole text of a verb: tables, what it uses of the prelude, its parts, the verb itself."""
    text = "\n".join([*(_file(part) for part in _PARTS.get(verb, ())), _file(verb)])
    text = "\n".join([_needed(text), text])
    return "\n".join([*_tables(text), text])


@cache
def sha(verb: str) -> str:
    """What EVALSHA calls the verb by."""
    return sha1(source(verb).encode(), usedforsecurity=False).hexdigest()


def verbs() -> list[str]:
    """Every verb there is."""
    names = (entry.name for entry in files("engine.adapters.redis").joinpath("lua").iterdir())
    parts = {"prelude", *(part for parts in _PARTS.values() for part in parts)}
    return sorted({name.removesuffix(".lua") for name in names if name.endswith(".lua")} - parts)


def _needed(text: str) -> str:
    """What the text uses of the prelude, and what that uses in turn: each function costs every call its making."""
    blocks = [(_DEFINED.findall(block), block) for block in _file("prelude").split("\n\n")]
    needed: list[str] = []
    for names, block in reversed(blocks):  # each uses only what stands before it
        if names and any(re.search(rf"\b{name}\b", text) for name in names):
            needed.insert(0, block)
            text += block
    return "\n\n".join(needed)


def _file(name: str) -> str:
    return files("engine.adapters.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _tables(body: str) -> list[str]:
    """The tables that this text, or what it uses of the prelude, mentions, each as one line of Lua."""
    moves = {f"{status}:{move}": to for status, row in MOVES.items() for move, to in row.items()}
    tables = {
        "MOVES": ", ".join(f"['{pair}'] = '{to}'" for pair, to in moves.items()),
        "STATUSES": ", ".join(f"{status} = true" for status in MOVES),
        "FINAL": ", ".join(f"{status} = true" for status in sorted(FINAL)),
        "PRIORITIES": ", ".join(f"[{int(priority)}] = '{priority.name}'" for priority in TaskPriority),
    }
    return [f"local {name} = {{ {rows} }}" for name, rows in tables.items() if name in body]
