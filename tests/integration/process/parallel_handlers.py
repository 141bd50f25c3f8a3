"""Handlers that are parallel inside, each in its own way."""

import multiprocessing
import os
import subprocess
import sys
from typing import Any

import joblib
import numpy

from engine import handler


def square(number: int) -> int:
    return number * number


def trace(size: int) -> float:
    """A product that BLAS would do with threads, if it had any."""
    return float(numpy.trace(numpy.eye(size) @ numpy.eye(size)))


@handler("with_joblib")
def with_joblib(payload: dict[str, Any]) -> list[float]:
    return list(joblib.Parallel(n_jobs=2, backend=payload["backend"])(joblib.delayed(trace)(n) for n in (50, 60, 70)))


@handler("with_all_jobs")
def with_all_jobs(payload: Any) -> int:
    """How many joblib takes when it may take all."""
    return int(joblib.effective_n_jobs(-1))


@handler("with_multiprocessing")
def with_multiprocessing(payload: dict[str, Any]) -> list[int]:
    with multiprocessing.get_context(payload["method"]).Pool(2) as pool:
        return list(pool.map(square, range(5)))


@handler("with_subprocess")
def with_subprocess(payload: Any) -> str:
    return subprocess.run([sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"], text=True,
                          capture_output=True, check=True).stdout.strip()


@handler("with_numpy")
def with_numpy(payload: Any) -> dict[str, Any]:
    """Threads of this process after BLAS has worked."""
    product = numpy.ones((600, 600)) @ numpy.ones((600, 600))
    return {"sum": float(product.sum()), "threads": len(os.listdir("/proc/self/task")),
            "variables": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}}
