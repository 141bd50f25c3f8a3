"""The tree of processes as a child of this one, held by three descriptors.

    bootstrap   the tree reads from it what it is to do
    ready       the tree writes once: "ready", and what could not be imported as JSON; or "failed", and why
    lifeline    the tree reads EOF from it when this process ends, however it ends, and ends too

The tree has a process group of its own: a Ctrl-C at the terminal reaches the script, which then
stops the tree in good order.
"""

import os
import select
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path

import orjson

from engine.errors import EngineError
from engine.scheduler.bootstrap import in_descriptor

_KILL_S = 10.0  # for a tree that was told twice to stop


class Tree:
    """One running tree. Only the process that started it stops it, not a fork of that."""

    def __init__(self, document: bytes) -> None:
        self._pid = os.getpid()
        bootstrap = in_descriptor(document)
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        given = (bootstrap, ready, lifeline)
        try:
            self._process = subprocess.Popen(_command(*given), pass_fds=given, stdin=subprocess.DEVNULL,
                                             process_group=0, env=_environment())
        except BaseException:
            os.close(self._lifeline)
            os.close(self._ready)
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        _ALL.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, as far as this process can know: a fork is not the parent of the tree."""
        return self._process.poll() if os.getpid() == self._pid else None

    def await_ready(self, patience_s: float) -> dict[str, str]:
        """Return once it is ready, with the tracebacks of imports that failed, by module or task type.

        Raises `EngineError` with the reason when it is not to be; it has then ended.
        """
        until_s = time.monotonic() + patience_s
        heard = b""
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        while not heard.endswith(b"\n"):
            left_ms = (until_s - time.monotonic()) * 1000
            if left_ms <= 0 or not poll.poll(left_ms):
                self.stop(0)
                raise EngineError(f"the engine was not ready after {patience_s:g} s and has been stopped")
            part = os.read(self._ready, 65_536)
            heard += part
            if not part:
                break
        word, _, told = heard.partition(b" ")
        if word == b"ready":
            return dict(orjson.loads(told))
        self.stop(0)
        reason = orjson.loads(told) if word == b"failed" else "it says why above"
        raise EngineError(f"the engine did not start (exit code {self.exit_code}): {reason}")

    def stop(self, grace_s: float) -> None:
        """Tell it to drain; after `grace_s` to stop at once; at last kill it. Returns when it has ended."""
        if os.getpid() != self._pid:
            return
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGTERM, _KILL_S), (signal.SIGKILL, None)):
            if self.exit_code is None:
                self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
                break
        self._close()

    def join(self, timeout_s: float | None) -> bool:
        """Wait until it has ended by itself; False when the time is up."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def forget(self) -> None:
        """In the child of a fork: let go, or the tree would outlive the process that it belongs to."""
        self._close()

    def _close(self) -> None:
        for name in ("_ready", "_lifeline"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)


def _command(bootstrap: int, ready: int, lifeline: int) -> list[str]:
    # -P: a folder `engine` in the working directory is not us
    return [sys.executable, "-P", "-m", "engine.services.tree.run", str(bootstrap), str(ready), str(lifeline)]


def _environment() -> dict[str, str]:
    """Ours; where this package was found by a path and not installed, the child has to find it too."""
    home = Path(__file__).resolve().parents[2]
    environment = dict(os.environ)
    if home.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    return environment


_ALL: "weakref.WeakSet[Tree]" = weakref.WeakSet()


def _forget_all() -> None:
    for tree in list(_ALL):
        tree.forget()


os.register_at_fork(after_in_child=_forget_all)
