"""What a figure depends on: the machine, the versions, the commit, the moment."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.adapters.redis.embedded.binary import find_server

ROOT = Path(__file__).parents[1]
REAL_TIME_PRIORITY = 10
PACKAGES = ("ganger", "redis", "hiredis", "orjson", "pydantic", "psutil")


def take_precedence(policy: int = os.SCHED_FIFO) -> None:
    """Run this process and all that it starts before whatever else the machine does. Raises PermissionError.

    Not for handlers that burn CPU for long: they would keep the engine itself from its turn.
    """
    os.sched_setscheduler(0, policy, os.sched_param(REAL_TIME_PRIORITY))


def give_way() -> None:
    """Undo it."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def describe() -> dict[str, Any]:
    """All of it, fit for JSON."""
    return {"at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "commit": _commit(),
            "machine": _machine(), "versions": _versions()}


def headline(told: dict[str, Any]) -> str:
    """The same in one line."""
    machine, versions = told["machine"], told["versions"]
    return (f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB · {machine['platform']} · "
            f"Python {versions['python']}, {versions['redis-server']} · {told['commit']} · {told['at']}")


def _machine() -> dict[str, Any]:
    return {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "platform": platform.platform(),
            "real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "load_1_min": round(os.getloadavg()[0], 2)}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "redis-server": _redis_server()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _redis_server() -> str:
    """The kind and the version of the server that a benchmark starts, such as "Valkey 9.1.2"."""
    path = find_server(Path(), os.environ.get("GANGER_REDIS_BINARY"))
    name, _, rest = _said(path, "--version").partition(" server v=")
    return f"{name} {rest.partition(' ')[0]}"


def _commit() -> str:
    commit = _said("git", "rev-parse", "--short", "HEAD") or "no commit"
    changed = _said("git", "status", "--porcelain", "--untracked-files=no", "--", "engine")
    return f"{commit}, engine changed since" if changed else commit


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
