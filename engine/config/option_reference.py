"""The table of options in docs/options.md, rendered from the options and the settings.

    python -m engine.config.option_reference docs/options.md      # put the table of this version into the page
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from engine.config.model import Settings
from engine.core.task.options import COUNT_MAX, OPTIONS, Giver, Option, OptionType

_HEAD = ("option", "type", "unit", "default", "given by", "can be amended", "meaning")
_GIVERS = {Giver.HANDLER: "handler", Giver.SUBMIT: "submit", Giver.API: "API", Giver.CLI: "CLI"}


def table(settings: Settings) -> str:
    """Every option as a row of a table in Markdown.

    `settings` hold the defaults of options that fall back to a setting.
    """
    rows = [_HEAD, ("---",) * len(_HEAD), *(_row(option, settings) for option in OPTIONS.values())]
    return "".join(f"{_line(row)}\n" for row in rows)


def _row(option: Option, settings: Settings) -> tuple[str, ...]:
    default = option.default
    if option.setting is not None:
        default = f"{getattr(settings, option.setting):g}, setting `{option.setting}`"
    givers = ", ".join(word for giver, word in _GIVERS.items() if giver in option.by)
    return (f"`{option.name}`", _type(option), option.unit, default, givers, "yes" if option.can_be_amended else "",
            option.about)


def _type(option: Option) -> str:
    if option.choices:
        return " or ".join(f"`{word}`" for word in option.choices)
    if option.type not in (OptionType.COUNT, OptionType.NUMBER):
        return str(option.type.value)
    bounds = f"from {option.low:g}" if option.high == COUNT_MAX else f"from {option.low:g} to {option.high:g}"
    return f"{option.type.value} {bounds}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def with_table(page: str, settings: Settings) -> str:
    """The page with the table of this version in place of the one that it has."""
    lines = page.splitlines(keepends=True)
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {_HEAD[0]} |"))
    end = next((index for index in range(start, len(lines)) if not lines[index].startswith("|")), len(lines))
    return "".join(lines[:start]) + table(settings) + "".join(lines[end:])


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(), Settings()))
