"""The doctor's look at this host: Python, the handlers, and what the kernel lets us do to our workers."""

import json
import math
import os
import platform
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

from engine.cli.doctor.finding import Finding, State
from engine.core.worker import inherited_state

if TYPE_CHECKING:
    from engine.config import Settings

_IMPORT = """
import importlib, json, sys
from engine.adapters.process.forkserver.inherited import ImportAudit
failures, audit = {}, ImportAudit()
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures[name] = f"{type(error).__name__}: {error}"
    audit.look(name)
from engine.tasks.handler_spec import REGISTRY
print("\\n" + json.dumps({"failures": failures, "handlers": sorted(REGISTRY), "inherited": audit.found().as_dict()}))
"""
_ADOPT = "from engine.adapters.kernel.prctl import adopt_orphans; adopt_orphans()"
_DUMP = """
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR2, file=sys.stdout, all_threads=True)
os.kill(os.getpid(), signal.SIGUSR2)
"""


def python() -> Finding:
    """Not too old, or the package could not have been installed."""
    return Finding("python", State.OK, f"{platform.python_implementation()} {platform.python_version()}")


def importable(settings: "Settings", *, pools_run: bool) -> Finding:
    """Import the handler modules, in a process of their own: they may hang, exit or crash."""
    from engine.config import sizes

    if not settings.handlers:
        if pools_run:
            return Finding("handlers", State.OK, "none are set for this command; the pools that run have their own")
        return Finding("handlers", State.WARN, "no handler modules are set; an engine started here could run nothing",
                       "name them: --handlers my_app.tasks, or `handlers` in the configuration")
    try:
        done = subprocess.run([sys.executable, "-c", _IMPORT, *settings.handlers], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=settings.boot_timeout_s, check=False,
                              env=_environment_of_a_pool(settings))
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Finding("handlers", State.FAIL, f"importing them takes longer than {settings.boot_timeout_s:g} s",
                       "see what they do when imported, or raise boot_timeout_s")
    except (ValueError, IndexError):
        return Finding("handlers", State.FAIL, f"importing them ended the process with {done.returncode}",
                       "import them by hand: python -c 'import " + ", ".join(settings.handlers) + "'")
    if found["failures"]:
        told = "; ".join(f"{module}: {error}" for module, error in found["failures"].items())
        return Finding("handlers", State.FAIL, told, "is the module installed, or the current folder the right one?")
    if not found["handlers"]:
        return Finding("handlers", State.FAIL, f"{', '.join(settings.handlers)} register no handler",
                       "decorate functions with @handler(\"name\")")
    known = f"{len(found['handlers'])}: {', '.join(found['handlers'])}"
    forked = any(sizes.starting(settings, pool).imports_once for pool in settings.pools)
    warnings = inherited_state.warnings(found["inherited"]) if forked else []
    if warnings:
        return Finding("handlers", State.WARN, f"{known}; but " + "; ".join(warnings),
                       "use them first in a handler or in @on_worker_start, or set start_method = \"spawn\"")
    return Finding("handlers", State.OK, known)


def _environment_of_a_pool(settings: "Settings") -> dict[str, str]:
    """As its fork server has it: how many threads libraries start depends on it. Of pools, the one with fewest workers.
    """
    from engine.adapters.kernel.prctl import set_threads
    from engine.config import cores, sizes

    environ = dict(os.environ)
    fewest = min(sizes.workers(settings, pool) for pool in settings.pools)
    set_threads(max(1, cores() // fewest), environ)
    return environ


def limits(settings: "Settings") -> list[Finding]:
    """What can be done to workers here, and which limits hold for all of them."""
    return [cgroup(), *ulimits(settings), core_dumps(), subreaper(), memory_sampling(), stack_dumps()]


def cgroup() -> Finding:
    """What would hold the limits of runs, if the engine were started here."""
    from engine.adapters.process.resources import cgroup as groups
    from engine.adapters.process.resources.oom import how_it_is_known

    known = f"kills by the kernel for want of memory are known from {how_it_is_known()}"
    own = groups.our_group()
    if own is None:
        return Finding("cgroup", State.WARN, f"no cgroup v2: limits are held by sampling; {known}",
                       "boot with cgroup v2, and run the engine as a systemd unit with Delegate=yes")
    if not groups.is_delegated(own):
        return Finding("cgroup", State.WARN, f"none is delegated to this shell: limits are held by sampling; {known}",
                       "run the engine as a systemd unit with Delegate=yes (ganger install-service)")
    if "memory" not in groups.controllers(own):
        return Finding("cgroup", State.WARN, f"{own} has no memory controller: max_memory is held by sampling; {known}",
                       "boot with the memory controller in cgroup v2")
    return Finding("cgroup", State.OK, f"limits are held by {', '.join(groups.controllers(own))} in {own}; {known}")


def ulimits(settings: "Settings") -> list[Finding]:
    """Whether the limits of this user are enough for the settings; soft limits are raised at the start."""
    from engine.services.composition import ulimits_needed

    found = []
    for name, need in zip(("open files", "processes"), ulimits_needed(settings), strict=True):
        soft, hard = need.limits()
        if shortage := need.shortage():
            found.append(Finding(name, State.FAIL, shortage, need.remedy()))
        else:
            raised = f", raised to {min(need.wanted, hard):g} at the start" if soft < need.wanted else ""
            found.append(Finding(name, State.OK, f"{_limit(soft)} allowed, {need.least} needed{raised}"))
    return found


def core_dumps() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        return Finding("core dumps", State.WARN, f"up to {_limit(soft)} bytes for each crash of a worker",
                       "ulimit -c 0, unless you want them")
    return Finding("core dumps", State.OK, "none")


def subreaper() -> Finding:
    """Whether processes that a handler leaves behind come to us, so that they can be ended (tried elsewhere)."""
    done = subprocess.run([sys.executable, "-c", _ADOPT], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        error = (done.stderr.strip().splitlines() or ["no reason is known"])[-1]
        return Finding("subreaper", State.WARN, f"not possible: {error}; double-forked children may outlive their task",
                       "run on Linux 3.4 or later, outside of a sandbox that forbids prctl")
    return Finding("subreaper", State.OK, "orphans of a task are found and ended")


def memory_sampling() -> Finding:
    import psutil

    try:
        rss = psutil.Process().memory_info().rss
    except (OSError, psutil.Error) as error:
        return Finding("memory", State.FAIL, f"/proc cannot be read: {error}", "mount /proc")
    return Finding("memory", State.OK, f"can be measured ({rss / 1_048_576:.0f} MiB are used by this command)")


def stack_dumps() -> Finding:
    """Whether a hung Python tells us where it hangs."""
    done = subprocess.run([sys.executable, "-c", _DUMP], capture_output=True, text=True, timeout=10, check=False)
    if "most recent call first" in done.stdout:
        return Finding("stack dumps", State.OK, "a hung task shows where it hangs")
    return Finding("stack dumps", State.WARN, "faulthandler does not answer to SIGUSR2",
                   "is SIGUSR2 blocked or ignored where the engine is started?")


def _limit(value: float) -> str:
    return "any number" if value == math.inf else str(value)
