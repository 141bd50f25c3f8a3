"""The engine as a child process of the script: its root process, which starts all others. Three descriptors join them:

    bootstrap   the root reads the document that says what to run
    ready       the root writes once: "ready" and a JSON object of failed imports, or "failed" and the reason
    lifeline    the root reads EOF when the script ends, however it ends, and then ends too

The root has a process group of its own: a Ctrl-C at the terminal reaches the script only, which then stops the engine
in good order.
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
from engine.scheduler.bootstrap_document import in_descriptor

_KILL_S = 10.0  # for a root that was told twice to stop


class EngineProcess:
    """One running engine. Only the process that started it can stop it; a fork of that process cannot."""

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
        """None while it runs, or where this process is a fork and cannot know."""
        return self._process.poll() if os.getpid() == self._pid else None

    def await_ready(self, timeout_s: float) -> dict[str, str]:
        """Return once the engine is ready, with the tracebacks of imports that failed, by module or task type.

        Raises `EngineError` with the reason where it does not become ready; it has then ended.
        """
        until_s = time.monotonic() + timeout_s
        message = b""
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        while not message.endswith(b"\n"):
            left_ms = (until_s - time.monotonic()) * 1000
            if left_ms <= 0 or not poll.poll(left_ms):
                self.stop(0)
                raise EngineError(f"the engine was not ready after {timeout_s:g} s and has been stopped")
            part = os.read(self._ready, 65_536)
            message += part
            if not part:
                break
        word, _, detail = message.partition(b" ")
        if word == b"ready":
            return dict(orjson.loads(detail))
        self.stop(0)
        reason = orjson.loads(detail) if word == b"failed" else "it says why above"
        raise EngineError(f"the engine did not start (exit code {self.exit_code}): {reason}")

    def stop(self, grace_s: float) -> None:
        """Tell the engine to drain, after `grace_s` seconds to stop at once, and at last kill it. Return at its end."""
        if os.getpid() != self._pid:
            return
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGTERM, _KILL_S), (signal.SIGKILL, None)):
            if self.exit_code is None:
                self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
                break
        self._close()

    def join(self, timeout_s: float | None) -> bool:
        """Wait until the engine has ended by itself, or `timeout_s` seconds; return whether it has ended."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def forget(self) -> None:
        """In the child of a fork: close the descriptors, or the engine would outlive the script that it belongs to."""
        self._close()

    def _close(self) -> None:
        for name in ("_ready", "_lifeline"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)


def _command(bootstrap: int, ready: int, lifeline: int) -> list[str]:
    # -P: a folder `engine` in the working directory is another package
    return [sys.executable, "-P", "-m", "engine.services.tree.run", str(bootstrap), str(ready), str(lifeline)]


def _environment() -> dict[str, str]:
    """The environment of this process. Where this package is not installed, the child has to find it by its path."""
    home = Path(__file__).resolve().parents[2]
    environment = dict(os.environ)
    if home.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    return environment


_ALL: "weakref.WeakSet[EngineProcess]" = weakref.WeakSet()


def _forget_all() -> None:
    for process in list(_ALL):
        process.forget()


os.register_at_fork(after_in_child=_forget_all)
