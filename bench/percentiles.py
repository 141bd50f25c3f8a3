"""Percentiles, under the names that all benchmarks give them."""

import statistics
from collections.abc import Sequence


def percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    """`name_p50` and `name_p99`."""
    cuts = statistics.quantiles(values, n=100)
    return {f"{name}_p50": round(cuts[49], 3), f"{name}_p99": round(cuts[98], 3)}
