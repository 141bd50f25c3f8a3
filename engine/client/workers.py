"""`client.workers`: which supervisors are alive, and what their workers do."""

import time
from typing import Any

from engine.errors import EngineError
from engine.ports.client_broker import BrokerProvider

_POLL_S = 0.05


class WorkersClient:
    """The verbs of supervisors and workers. Every method may raise `BrokerError`."""

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def supervisors(self, *, alive_only: bool = True) -> list[dict[str, Any]]:
        """Return the reports of the supervisors; each has an entry for every worker in `slots`.

        Args:
            alive_only: leave out supervisors whose lease has run out.
        """
        reports = self._provider.broker().supervisors()
        return [report for report in reports if report["alive"]] if alive_only else reports

    __call__ = supervisors  # `client.workers()`

    def processes(self) -> list[dict[str, Any]]:
        """Return the latest sample of every process of the engine, on every host: memory in bytes, CPU in percent."""
        return self._provider.broker().processes()

    def usage_history(self, host: str, root_pid: int) -> list[dict[str, Any]]:
        """Return what the processes of one engine have used, every ten seconds, the newest first.

        Args:
            host: the host of the engine, as the report of a supervisor has it.
            root_pid: the id of the engine's root process, as the report has it.
        """
        return self._provider.broker().history(host, root_pid)

    def send(self, supervisor: str, command: dict[str, Any]) -> bool:
        """Have one supervisor do something, such as `{"do": "level", "level": "DEBUG"}`.

        Returns False if there is no such supervisor. `engine/services/pool/command_queue.py` has the commands.
        """
        return self._provider.broker().send_command(supervisor, command)

    def stacks(self, supervisor: str, slot: int, timeout_s: float) -> str:
        """Return the Python stacks of all threads of a worker. Its run goes on.

        Args:
            supervisor: the name of its supervisor, as `supervisors` has it.
            slot: the number of its slot.
            timeout_s: how many seconds to wait for the answer.

        Raises:
            EngineError: there is no such supervisor, or it has not answered in time.
        """
        broker, worker = self._provider.broker(), f"{supervisor}/{slot}"
        before = next((row["id"] for row in broker.engine_log()), None)
        until_s = time.monotonic() + timeout_s
        if not broker.send_command(supervisor, {"do": "stack", "slot": slot}):
            raise EngineError(f"there is no supervisor {supervisor}")
        while time.monotonic() < until_s:
            for row in broker.engine_log():
                if row["id"] == before:  # exact, as no clock is: an answer may be there within a millisecond
                    break
                if row.get("worker") == worker and "stacks" in row:
                    return str(row["stacks"])
            time.sleep(_POLL_S)
        raise EngineError(f"the worker {worker} has not told its stacks within {timeout_s:g} s")
