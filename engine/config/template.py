"""The commented configuration file, made from the model: `config/ganger.toml` and `ganger config init`.

Each setting stands with its unit, its limits and its default, commented out,
so that a fresh file changes nothing.
"""

import textwrap
from typing import Any

from engine.config.limits import exact, extra_of, limit_of
from engine.config.model import Settings
from engine.config.pools import PoolSettings

_HEAD = """\
# Settings of Ganger. Each line that starts with "#name" shows a default: remove the "#" to change it.
#
# Read from --config FILE, $GANGER_CONFIG, ./ganger.toml or ./config/ganger.toml, whichever comes first.
# An environment variable GANGER_<NAME> (GANGER_MAX_WORKERS=4) goes before this file, a flag before both.
# `ganger config check` says what is wrong with it; `ganger config show` says where each value comes from.
"""

_SECTIONS = {  # the setting with which each begins
    "redis_url": "Where the tasks are",
    "handlers": "What runs, and on how much",
    "task_timeout": "How long a task may run, and what happens when it fails",
    "payload_bytes_max": "What is kept, how much of it and how long",
    "lease_s": "Supervision",
    "worker_tasks_max": "Workers",
    "log_level": "Logs",
    "api": "The REST API",
    "pools": "Pools",
}

_POOLS = """\
# Pools of workers: each [pools.NAME] is a supervisor with its own slots, serving its own queues.
# Without any there is one pool, "default", that serves every queue. (GANGER_POOLS takes the same as JSON.)
#
# queues: queues that the pool serves; "*" is every queue. Default: ["*"].
# max_workers: {limit}. Default: the engine's max_workers.
# scale: fixed or auto. Default: the engine's scale.
# start_method: fork or spawn. Default: the engine's start_method.
# preload: true or false. Default: the engine's preload.
# cpu_affinity: true or false. Default: the engine's cpu_affinity.
#
#[pools.default]
#queues = ["*"]
#
#[pools.images]
#queues = ["images", "video"]
#max_workers = 2
"""


def template() -> str:
    """The whole file as text."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            parts.append(f"\n# {'-' * 3} {_SECTIONS[name]} {'-' * (100 - len(_SECTIONS[name]))}\n")
        if name == "pools":
            parts.append(_POOLS.format(limit=limit_of("max_workers", PoolSettings)))
            continue
        default = None if field.default_factory else field.default
        example = extra_of(field)["shown"] or _toml(4 if default is None else default)
        said = f" Default: {_toml(default)}." if default is not None else ""
        text = _wrapped(field.description or "")
        parts.append(f"# {text}\n# Accepts {limit_of(name)}.{said}\n#{name} = {example}\n\n")
    return "".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _wrapped(text: str) -> str:
    return "\n# ".join(textwrap.wrap(text, 108))


def _toml(value: Any) -> str:
    if isinstance(value, float):
        return exact(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"'
