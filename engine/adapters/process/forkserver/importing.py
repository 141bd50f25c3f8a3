"""Imports the handlers where the way in which workers start wants it: in the fork server, or in each worker.

Where each worker imports for itself, the fork server lets a process of its own, the scout, find out what there is. So
the pool knows its handlers before there is a worker, and what the imports do stays out of the fork server.
"""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import Any

import orjson

from engine.adapters.kernel import descendants, prctl
from engine.adapters.process.forkserver.handler_table import LoadedHandler, make_handler_table
from engine.adapters.process.forkserver.inherited import ImportAudit
from engine.adapters.process.forkserver.loading import load
from engine.adapters.process.worker.lifetime import StartFailed, failure
from engine.core.worker.start_method import Starting, misfit
from engine.tasks.handler_spec import REGISTRY


@dataclass(slots=True)
class ImportedHandlers:
    """What there is to run, and what the pool is told of it."""

    handlers: dict[bytes, LoadedHandler] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)  # {"handlers", "failures", "inherited"}


def starting_of(config: dict[str, Any]) -> Starting:
    """How workers start, by the configuration."""
    return Starting(**config["starting"])


def import_all(config: dict[str, Any]) -> ImportedHandlers:
    """Import what the configuration names, in this process."""
    audit = ImportAudit()
    failures = load(config["modules"], config["main"], config["functions"], audit.look)
    failures |= _leave_out_misfits(config)
    inherited = audit.found().as_dict() if starting_of(config).imports_once else {}
    return ImportedHandlers(make_handler_table(REGISTRY), {
        "handlers": [spec.announcement() for spec in REGISTRY.values()], "failures": failures, "inherited": inherited})


def send_scout(config: dict[str, Any]) -> dict[str, Any]:
    """Import everything in a process that then ends with all that it has started; return what it found."""
    fd = os.memfd_create("ganger-scout", os.MFD_CLOEXEC)  # no pipe: a process that an import leaves would keep it open
    try:
        pid = os.fork()
        if pid == 0:
            _scout(config, fd)
        _, status = os.waitpid(pid, 0)
        found = os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    descendants.end(descendants.children(os.getpid()))  # what it has left came to us; there are no workers yet
    try:
        report: dict[str, Any] = orjson.loads(found)
    except ValueError:
        names = [*config["modules"], *(config["main"] or {}).values()]
        why = f"importing ended the process with {os.waitstatus_to_exitcode(status)}\n"
        report = {"handlers": [], "failures": dict.fromkeys(names, why), "inherited": {}}
    return report


def import_in_worker(config: dict[str, Any], known: dict[str, str], handlers: dict[bytes, LoadedHandler],
                     post: Callable[[bytes], None]) -> None:
    """Fill `handlers`. Raises `StartFailed`, and tells the pool, for an import that the scout had no trouble with."""
    imported = import_all(config)
    for name, trace in imported.report["failures"].items():
        if name not in known:
            last = trace.strip().splitlines()[-1] if trace.strip() else "it failed"
            post(failure(name, "import", last, trace))
            raise StartFailed(name)
    handlers.update(imported.handlers)


def _scout(config: dict[str, Any], writer: int) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        prctl.die_with_parent(SIGKILL)
        found = memoryview(orjson.dumps(import_all(config).report))
        while found:
            found = found[os.write(writer, found) :]
        prctl.flush_output()
        code = 0
    except BaseException:  # noqa: BLE001  whatever it is, the fork server's own code must not go on in this process
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _leave_out_misfits(config: dict[str, Any]) -> dict[str, str]:
    """Take handlers out that ask for workers of another kind; return what is to be said of each."""
    here, others = starting_of(config), [Starting(**one) for one in config["others"]]
    said: dict[str, str] = {}
    for name, spec in list(REGISTRY.items()):
        words = misfit(name, spec.options.get("start_method"), spec.options.get("preload"), config["pool"], here,
                       others)
        if words is not None:
            del REGISTRY[name]
            if words:
                said[name] = words
    return said
