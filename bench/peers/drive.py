"""A driver in the peers' environment as a child of this process."""

import json
import subprocess
from typing import Any

from bench import machine


def drive(command: list[str], variables: dict[str, str], s_max: float) -> dict[str, Any]:
    """What a driver prints. Raises RuntimeError with its last words if it fails."""
    driver = subprocess.Popen(command, cwd=machine.ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)
    try:
        printed, words = driver.communicate(timeout=s_max)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not over after {s_max:g} s") from None
    finally:
        driver.terminate()  # not killed: it has workers to end
        driver.wait()
    if driver.returncode:
        raise RuntimeError((words.strip().splitlines() or ["no word"])[-1])
    told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return told
