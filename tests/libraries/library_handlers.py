"""One handler for each library: a call that uses its threads, and the same call done at import where it is asked for.

WARM_LIBRARY names the library that is used at import too, as a module does that loads and tries its model. COLD_LIBRARY
names the one that is only imported.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from engine import handler


def polars_call() -> float:
    import polars

    frame = polars.DataFrame({"a": list(range(20_000)), "b": [n % 7 for n in range(20_000)]})
    return float(frame.lazy().group_by("b").agg(polars.col("a").sum()).collect()["a"].sum())


def numpy_call() -> float:
    import numpy

    return float(numpy.trace(numpy.eye(400) @ numpy.eye(400)))


def scipy_call() -> float:
    import numpy
    import scipy.fft
    import scipy.linalg

    numbers = numpy.arange(60_000, dtype=float).reshape(60, 1000)
    return float(abs(scipy.fft.fft(numbers, workers=2)).sum() + scipy.linalg.svdvals(numbers)[0])


def sklearn_call() -> float:
    import numpy
    from sklearn.cluster import KMeans

    points = numpy.random.default_rng(1).random((4000, 4))
    return round(float(KMeans(4, n_init=1, random_state=1).fit(points).inertia_), 6)


def pandas_call() -> float:
    import numpy
    import pandas
    import pyarrow
    import pyarrow.compute

    frame = pandas.DataFrame({"a": numpy.arange(50_000.0), "b": numpy.arange(50_000) % 7})
    return float(pyarrow.compute.sum(pyarrow.Table.from_pandas(frame.groupby("b").sum())["a"]).as_py())


def duckdb_call() -> float:
    import duckdb

    row = duckdb.connect().execute("select sum(i * i) from range(300000) t(i)").fetchone()
    return float(row[0])


def numba_call() -> float:
    os.environ["NUMBA_THREADING_LAYER"] = "omp"  # which of its layers it takes depends on what is installed
    import numba
    import numpy

    @numba.njit(parallel=True)
    def total(numbers: Any) -> Any:
        found = 0.0
        for index in numba.prange(len(numbers)):
            found += numbers[index]
        return found

    return float(total(numpy.ones(100_000)))


def torch_call() -> float:
    import torch

    torch.manual_seed(1)
    return round(float(torch.nn.Conv2d(3, 8, 3)(torch.ones(8, 3, 64, 64)).sum()), 3)


def lightgbm_call() -> float:
    import lightgbm
    import numpy

    chance = numpy.random.default_rng(1)
    data = lightgbm.Dataset(chance.random((2000, 5)), chance.random(2000))
    return float(lightgbm.train({"verbose": -1, "deterministic": True}, data, 3).num_trees())


def xgboost_call() -> float:
    import numpy
    import xgboost

    chance = numpy.random.default_rng(1)
    data = xgboost.DMatrix(chance.random((2000, 5)), chance.random(2000))
    return float(xgboost.train({"max_depth": 3}, data, 3).num_boosted_rounds())


def cv2_call() -> float:
    import cv2
    import numpy

    image = numpy.arange(600 * 600 * 3, dtype=numpy.uint8).reshape(600, 600, 3)
    return float(cv2.GaussianBlur(image, (31, 31), 0).sum())


def onnxruntime_call() -> float:
    import onnxruntime

    return float(len(onnxruntime.get_available_providers()) > 0)


def ortools_call() -> float:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    numbers = [model.new_int_var(0, 20, f"n{n}") for n in range(8)]
    model.add_all_different(numbers)
    model.maximize(sum(numbers))
    solver = cp_model.CpSolver()
    solver.solve(model)
    return solver.objective_value


def zstandard_call() -> float:
    import zstandard

    compressor = _kept("zstandard", lambda: zstandard.ZstdCompressor(threads=2))
    return float(len(zstandard.decompress(compressor.compress(bytes(3_000_000)))))


KEPT: dict[str, Any] = {}


def _kept(name: str, make: Callable[[], Any]) -> Any:
    return KEPT[name] if name in KEPT else KEPT.setdefault(name, make())


CALLS = {name.removesuffix("_call"): call for name, call in list(globals().items()) if name.endswith("_call")}
MODULES = {"pandas": "pyarrow", "ortools": "ortools.sat.python.cp_model", "sklearn": "sklearn.cluster",
           "scipy": "scipy.fft"}

if cold := os.environ.get("COLD_LIBRARY"):
    importlib.import_module(MODULES.get(cold, cold))
if warm := os.environ.get("WARM_LIBRARY"):
    CALLS[warm]()


@handler("use", timeout=20, max_retries=0)
def use(library: str) -> float:
    return CALLS[library]()
