"""Where values come from: finds them, remembers the source of each, and words what is wrong with one.

An unknown name is an error whichever way it came in, and names its nearest
neighbour: a misspelt setting that is silently ignored is found in production.
"""

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from engine.config.limits import limit_of, shown
from engine.config.model import Settings
from engine.config.pools import PoolSettings
from engine.core.task.names import did_you_mean
from engine.errors import InvalidSetting

ENV_PREFIX = "GANGER_"
ENV_OF_FILE = "GANGER_CONFIG"
DEFAULT_FILES = (Path("ganger.toml"), Path("config/ganger.toml"))
_LISTS = ("handlers",)
_TABLES = ("pools",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Validated settings, and for each name the place its value came from."""

    settings: Settings
    sources: dict[str, str] = field(default_factory=dict)
    config_file: Path | None = None


@dataclass(slots=True)
class _Gathered:
    """Raw values with their sources; a later source overwrites an earlier one."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[InvalidSetting] = field(default_factory=list)

    def add(self, name: str, value: Any, source: str) -> None:
        self.values[name], self.sources[name] = value, source


def load_settings(flags: Mapping[str, Any] | None = None, config_file: Path | None = None, *,
                  environ: Mapping[str, str] | None = None, are_arguments: bool = False) -> Loaded:
    """Settings from defaults, file, environment and flags, in rising order of precedence.

    `flags` maps setting names to values, None meaning not given. `config_file` overrides $GANGER_CONFIG,
    ./ganger.toml and ./config/ganger.toml. `are_arguments`: the flags came as arguments of a call in Python, and errors
    name them so. Raises `InvalidSetting` for the first thing that is wrong.
    """
    loaded, problems = resolve(flags, config_file, environ=environ, are_arguments=are_arguments)
    if loaded is None:
        raise problems[0]
    return loaded


def resolve(flags: Mapping[str, Any] | None = None, config_file: Path | None = None, *,
            environ: Mapping[str, str] | None = None,
            are_arguments: bool = False) -> tuple[Loaded | None, list[InvalidSetting]]:
    """As `load_settings`, but returns everything that is wrong instead of raising the first of it."""
    environ = os.environ if environ is None else environ
    found = _Gathered()
    path = None
    try:
        path = find_config_file(config_file, environ)
        if path is not None:
            _from_file(found, path)
    except InvalidSetting as problem:
        found.problems.append(problem)
    _from_environment(found, environ)
    _from_flags(found, flags or {}, are_arguments)
    try:
        settings = Settings.model_validate(found.values)
    except ValidationError as error:
        found.problems += [_problem(dict(detail), found) for detail in error.errors()]
    if found.problems:
        return None, found.problems
    sources = {name: found.sources.get(name, "default") for name in Settings.model_fields}
    return Loaded(settings, sources, path), []


def find_config_file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one that was named, which then has to exist, or a default one if there is one."""
    if named is None and environ.get(ENV_OF_FILE):
        named = Path(environ[ENV_OF_FILE])
    if named is None:
        named = next((path for path in DEFAULT_FILES if path.exists()), None)
        if named is None:
            return None
    if named.is_dir():
        raise InvalidSetting(f"the configuration file {str(named)!r} is a folder", field="config", value=str(named),
                             limit="the path of a TOML file")
    if not named.is_file():
        raise InvalidSetting(f"there is no configuration file {str(named)!r}", field="config", value=str(named),
                             limit="the path of a TOML file")
    return named


def _from_file(found: _Gathered, path: Path) -> None:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"cannot read the configuration file {str(path)!r}: {error}", field="config",
                             value=str(path), limit="a readable TOML file in UTF-8") from None
    for name, value in content.items():
        if name in Settings.model_fields:
            found.add(name, value, f"file {path}")
        else:
            found.problems.append(_unknown(name, f"setting {name!r} in {path}", Settings.model_fields))


def _from_environment(found: _Gathered, environ: Mapping[str, str]) -> None:
    """An empty variable counts as not set, as in shells and compose files. Those of a service are passed over."""
    known = {ENV_PREFIX + name.upper(): name for name in Settings.model_fields}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable == ENV_OF_FILE or not environ[variable]:
            continue
        if _is_of_a_service(variable, environ, known):
            continue
        if variable not in known:
            found.problems.append(_unknown(variable, f"environment variable {variable}", [*known, ENV_OF_FILE]))
            continue
        source = f"environment {variable}"
        found.add(known[variable], _parsed(found, known[variable], environ[variable], source), source)


# What Kubernetes sets in each pod for a Service named "ganger" or "ganger-api", and Docker for a link of that name.
_SERVICE = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
                      r"|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT(_START|_END)?|ADDR))?)", re.ASCII)
_OF_LINK = re.compile(r"(.+)_(NAME|ENV_.+)", re.ASCII)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://\S+", re.ASCII)


def _is_of_a_service(variable: str, environ: Mapping[str, str], known: Collection[str]) -> bool:
    """Whether Kubernetes or Docker has set it. The name of a setting, GANGER_API_PORT, is theirs only with a value such
    as `tcp://10.0.0.7:8000`, which no setting has."""
    if variable.endswith("_PORT") and _SERVICE_URL.fullmatch(environ[variable]):
        return True
    if variable in known:
        return False
    link = _OF_LINK.fullmatch(variable)
    return _SERVICE.fullmatch(variable) is not None or (
        link is not None and _SERVICE_URL.fullmatch(environ.get(f"{link[1]}_PORT", "")) is not None)


def _from_flags(found: _Gathered, flags: Mapping[str, Any], are_arguments: bool) -> None:
    for name, value in flags.items():
        if value is None:
            continue
        source = f"argument {name}" if are_arguments else "flag --" + name.replace("_", "-")
        if name not in Settings.model_fields:
            found.problems.append(_unknown(name, f"setting {name!r}", Settings.model_fields))
            continue
        found.add(name, _parsed(found, name, value, source), source)


def _parsed(found: _Gathered, name: str, value: Any, source: str) -> Any:
    """Text of a list or table setting: a JSON value, or for lists names with commas between them."""
    if not isinstance(value, str) or name not in _LISTS + _TABLES:
        return value
    if name in _LISTS and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    try:
        return orjson.loads(value)
    except ValueError as error:
        found.problems.append(InvalidSetting(f"{name} from {source} is not JSON: {error}", field=name,
                                             value=shown(name, value), limit=limit_of(name)))
        return Settings.model_fields[name].get_default(call_default_factory=True)


def _unknown(name: str, what: str, known: Any) -> InvalidSetting:
    return InvalidSetting(f"unknown {what}{did_you_mean(name, known)}", field=name, limit="a setting that exists")


def _problem(detail: dict[str, Any], found: _Gathered) -> InvalidSetting:
    """One validation error in the words of the person who wrote the value."""
    if detail["type"] == "disagreement":
        told = detail["ctx"]
        name, value, limit = told["name"], told["value"], told["limit"]
        return InvalidSetting(f"{name} = {value:g} ({found.sources.get(name, 'default')}) must be {limit}",
                              field=name, value=f"{value:g}", limit=limit)
    location = [str(part) for part in detail["loc"]]
    name, dotted, source = location[0], ".".join(location), found.sources.get(location[0], "default")
    if detail["type"] == "extra_forbidden":
        return _unknown(location[-1], f"setting {dotted!r} from {source}", PoolSettings.model_fields)
    model_field = location[2] if name == "pools" and len(location) > 2 else None
    limit = limit_of(model_field, PoolSettings) if model_field in PoolSettings.model_fields else limit_of(name)
    value, kind = shown(name, detail["input"]), type(detail["input"]).__name__
    hint = _module_of(detail["input"]) if detail["type"] == "module" else ""
    return InvalidSetting(f"{dotted} = {value} ({kind}, from {source}) must be {limit}{hint}", field=dotted,
                          value=value, limit=limit)


def _module_of(path: str) -> str:
    """For the path of a file that was given in place of a module: `; its module is 'my_app.tasks'`."""
    if not path.endswith(".py"):
        return ""
    parts = [part for part in Path(path.removesuffix(".py")).parts if part not in (".", "..", "/")]
    return f"; the module of that file is {'.'.join(parts)!r}"
