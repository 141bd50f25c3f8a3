"""What `ps` calls a worker: "ganger: worker 3" while it has nothing to do, else with the handler and the task.

Writing it costs as much as a tenth of a no-op, so short runs are left out: those of handlers that `Meter` does not
measure either.
"""

import setproctitle


class ProcessTitle:
    """`idle` is what a worker without a run is called."""

    def __init__(self, idle: str) -> None:
        self._idle = idle
        self._has_run = False
        setproctitle.setproctitle(idle)

    def begin(self, handler: str, task_id: bytes) -> None:
        """A run has begun: show its handler and its task."""
        self._has_run = True
        setproctitle.setproctitle(f"{self._idle} {handler} {task_id.decode()}")

    def end(self) -> None:
        """The run has ended."""
        if self._has_run:
            self._has_run = False
            setproctitle.setproctitle(self._idle)
