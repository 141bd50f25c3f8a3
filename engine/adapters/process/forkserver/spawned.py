"""A worker that is a fresh interpreter (start_method = "spawn"), made by the fork server, which has imported nothing.

    python -P -c '…' ROOT ORDER        ORDER is JSON: descriptors, slot, and the pid of the fork server

The fork server forks, and the child executes Python anew. So it is the fork server's child as any worker is: it is
reaped, killed and adopted alike.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import orjson
import setproctitle

from engine.adapters.kernel import signals
from engine.adapters.process.forkserver.importing import import_in_worker
from engine.adapters.process.forkserver.worker_start import WorkerDescriptors, WorkerStart, become_worker, leave_home
from engine.adapters.process.resources.final_usage import UsageMarks
from engine.adapters.process.worker.process import WorkerSettings

_ROOT = str(Path(__file__).parents[4])
_BOOT = ("import sys; sys.path.insert(0, sys.argv[1]); from engine.adapters.process.forkserver.spawned import main; "
         "del sys.path[0]; main(sys.argv[2])")


def write_config(config: dict[str, Any], known: dict[str, str]) -> int:
    """Put down what each worker has to know; return the descriptor. `known` are imports that fail anyway."""
    fd = os.memfd_create("ganger-config", os.MFD_CLOEXEC)
    data = memoryview(orjson.dumps({"config": config, "known": list(known)}))
    while data:
        data = data[os.write(fd, data) :]
    return fd


def execute_worker(ends: WorkerDescriptors, slot: int, server: int, config_fd: int, page_fd: int) -> NoReturn:
    """In the child of a fork: become a fresh interpreter. Never returns."""
    code = 1
    try:
        leave_home(server)
        for fd in (*ends.all(), config_fd, page_fd):
            os.set_inheritable(fd, True)
        order = {"ends": ends.all(), "slot": slot, "config": config_fd, "page": page_fd, "server": server}
        arguments = [sys.executable, "-P", "-c", _BOOT, _ROOT, orjson.dumps(order).decode()]
        os.execve(sys.executable, arguments, os.environ | {"SPT_NOENV": "1"})
    except OSError as error:
        os.write(2, f"no worker can be started: {error}\n".encode())
    finally:
        os._exit(code)


def main(order_json: str) -> NoReturn:
    """In the fresh interpreter: import the handlers, and serve."""
    order = orjson.loads(order_json)
    signals.ignore()
    setproctitle.setproctitle(f"ganger: worker {order['slot']}")
    os.environ.pop("SPT_NOENV", None)
    ends = WorkerDescriptors(*order["ends"])
    for fd in ends.all():
        os.set_inheritable(fd, False)
    written = orjson.loads(os.pread(order["config"], os.fstat(order["config"]).st_size, 0))
    os.close(order["config"])
    config, known = written["config"], dict.fromkeys(written["known"], "")
    if config["sys_path"]:
        sys.path[:] = config["sys_path"]
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    slot, write_mark = order["slot"], UsageMarks(order["page"]).writer(order["slot"])
    settings = WorkerSettings(f"{config['supervisor']}/{slot}", **config["limits"])
    become_worker(ends, WorkerStart(
        settings, {}, order["server"], f"ganger: worker {slot}", write_mark,
        lambda handlers, post: import_in_worker(config, known, handlers, post), has_left_home=True))
