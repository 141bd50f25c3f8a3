"""The Lua scripts: one verb a file, put together from parts and rendered with the names of its keys and arguments.

1. `-- include: name` brings in lua/include/name.lua, once. Of an include, a verb gets only what it uses: each function
   costs every call its making. Paragraphs of an include must be definitions.
2. `KEYS.name`, `ARGV.name`, `ARGV.group[n].field`, `#ARGV.group` and `FIRST.group` become positions, by `layouts`.
3. The tables of the lifecycle and the priorities are rendered from the core, so there is no second copy.
"""

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files
from importlib.resources.abc import Traversable

from engine.adapters.redis.wire.layouts import LAYOUTS, Layout
from engine.core.task.lifecycle import FINAL, MOVES
from engine.core.task.priority import TaskPriority

_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--[^\n]*\n| *--[^\n]*", re.MULTILINE)
_DEFINED = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)
_FIELD = re.compile(r"\b(KEYS|ARGV)\.(\w+)\[([^\[\]]+)\](?:\.(\w+))?")
_COUNT = re.compile(r"#(KEYS|ARGV)\.(\w+)")
_FIRST = re.compile(r"\bFIRST\.(\w+)")
_SINGLE = re.compile(r"\b(KEYS|ARGV)\.(\w+)")


@cache
def source(verb: str) -> str:
    """The whole text of a verb, as Redis gets it.

    Raises `ValueError` for an include that is missing, or the name of a key or argument that the verb does not have.
    """
    includes, body = _expanded(verb)
    return _render(verb, "\n\n".join([*_used(_tables() + includes, body), body]))


@cache
def sha(verb: str) -> str:
    """What EVALSHA calls the verb by."""
    return sha1(source(verb).encode(), usedforsecurity=False).hexdigest()


def verbs() -> list[str]:
    """Every verb there is."""
    return sorted(_verb_files())


@cache
def _verb_files() -> dict[str, Traversable]:
    folders = [entry for entry in _lua().iterdir() if entry.is_dir() and entry.name != "include"]
    return {entry.name.removesuffix(".lua"): entry for folder in folders for entry in folder.iterdir()
            if entry.name.endswith(".lua")}


def _lua() -> Traversable:
    return files("engine.adapters.redis").joinpath("lua")


def _expanded(verb: str) -> tuple[list[str], str]:
    """The paragraphs of all that a verb includes, what is used before what uses it; and the verb itself."""
    paragraphs: list[str] = []
    included: set[str] = set()

    def include(text: str) -> str:
        for name in _INCLUDE.findall(text):
            if name not in included:
                included.add(name)
                part = include(_include_file(name))
                paragraphs.extend(paragraph for paragraph in part.split("\n\n") if paragraph.strip())
        return _COMMENT.sub("", _INCLUDE.sub("", text)).strip("\n")

    return paragraphs, include(_verb_files()[verb].read_text(encoding="utf-8"))


def _include_file(name: str) -> str:
    path = _lua().joinpath("include", f"{name}.lua")
    if not path.is_file():
        raise ValueError(f"there is no lua/include/{name}.lua")
    return path.read_text(encoding="utf-8")


def _used(paragraphs: list[str], body: str) -> list[str]:
    """Those of the paragraphs that define something which the body, or a later one that is used, mentions."""
    used: list[str] = []
    words = set(re.findall(r"\w+", body))
    for paragraph in reversed(paragraphs):
        names = {name for names in _DEFINED.findall(paragraph) for name in names.split(", ")}
        if names & words:
            used.insert(0, paragraph.strip("\n"))
            words |= set(re.findall(r"\w+", paragraph))
    return used


def _tables() -> list[str]:
    """The tables that stand for the core's, each as one line of Lua."""
    moves = {f"{status}:{move}": to for status, row in MOVES.items() for move, to in row.items()}
    tables = {
        "MOVES": ", ".join(f"['{pair}'] = '{to}'" for pair, to in moves.items()),
        "STATUSES": ", ".join(f"{status} = true" for status in MOVES),
        "FINAL": ", ".join(f"{status} = true" for status in sorted(FINAL)),
        "PRIORITIES": ", ".join(f"[{int(priority)}] = '{priority.name}'" for priority in TaskPriority),
    }
    return [f"local {name} = {{ {rows} }}" for name, rows in tables.items()]


# -- names to positions ---------------------------------------------------------------------------------------------


def _render(verb: str, text: str) -> str:
    layout, starts = LAYOUTS[verb], {}

    def known(which: str, group: str) -> tuple[str, ...]:
        try:
            return (layout.key_names if which == "KEYS" else layout.arg_names).groups[group]
        except KeyError:
            raise ValueError(f"{verb}.lua: {which} has no group {group}") from None

    def position(which: str, group: str, number: str, field: str) -> str:
        fields = known(which, group)
        if field and field not in fields:
            raise ValueError(f"{verb}.lua: {which}.{group} has no field {field}")
        before, is_fixed = _before(layout, which, group)
        offset = (fields.index(field) if field else 0) + 1 - len(fields)
        factor = "" if len(fields) == 1 else f"{len(fields)} * "
        number = number if re.fullmatch(r"\w+", number) else f"({number})"
        if is_fixed:
            return f"{factor}{number} + {int(before) + offset}"
        starts[f"{which}_{group}"] = before
        return f"{factor}{number} + {which}_{group} + {offset}".replace("+ -", "- ").removesuffix(" + 0")

    def count(found: re.Match[str]) -> str:
        which, group = found.groups()
        if group in (layout.key_names if which == "KEYS" else layout.arg_names).single:
            return found[0]  # the length of its text
        fields, groups = known(which, group), (layout.key_names if which == "KEYS" else layout.arg_names).groups
        if group != list(groups)[-1]:
            return f"tonumber(ARGV.{group.removesuffix('s')}_count)"
        return f"((#{which} - ({_before(layout, which, group)[0]})) / {len(fields)})"

    def single(found: re.Match[str]) -> str:
        which, name = found.groups()
        names = (layout.key_names if which == "KEYS" else layout.arg_names).single
        if name not in names:
            raise ValueError(f"{verb}.lua: {which} has no {name}")
        return f"{which}[{names.index(name) + 1}]"

    text = _FIELD.sub(lambda at: f"{at[1]}[{position(at[1], at[2], at[3], at[4])}]", text)
    text = _FIRST.sub(lambda at: position("ARGV", at[1], "1", ""), text)
    text = _COUNT.sub(count, text)
    text = "\n".join([*(f"local {name} = {before}" for name, before in starts.items()), text])
    return _SINGLE.sub(single, text)


def _before(layout: Layout, which: str, group: str) -> tuple[str, bool]:
    """How many keys or arguments stand before a group, as Lua; and whether that is a plain number."""
    names = layout.key_names if which == "KEYS" else layout.arg_names
    text, is_fixed = str(len(names.single)), True
    for earlier, fields in names.groups.items():
        if earlier == group:
            break
        text += f" + {len(fields)} * ARGV.{earlier.removesuffix('s')}_count"
        is_fixed = False
    return text, is_fixed
