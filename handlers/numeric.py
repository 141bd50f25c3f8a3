"""Numeric work with numpy: `pip install 'ganger[numeric]'`.

What these handlers show: work that spends its time in C. BLAS would start as
many threads as the machine has cores in every worker; the pool sets its thread
variables before numpy is imported, so that workers do not fight for cores.
"""

import math

from pydantic import BaseModel, ConfigDict, Field

from engine import Context, handler

try:
    import numpy as np
except ImportError as error:
    raise ImportError("ganger_handlers.numeric needs numpy: pip install 'ganger[numeric]'") from error

BATCH = 1_000_000


class EigenvaluesRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    matrix: list[list[float]] | None = None  # None: a random symmetric one of `size`
    size: int = Field(default=200, ge=1, le=5_000)
    seed: int = Field(default=0, ge=0)
    largest: int = Field(default=5, ge=1)


class OptionRequest(BaseModel):
    """A European call: the right to buy at `strike` after `years`."""

    model_config = ConfigDict(extra="forbid")

    spot: float = Field(default=100.0, gt=0)
    strike: float = Field(default=105.0, gt=0)
    rate: float = 0.03  # a year
    volatility: float = Field(default=0.2, gt=0)  # a year
    years: float = Field(default=1.0, gt=0)
    samples: int = Field(default=1_000_000, ge=2, le=10_000_000_000)
    seed: int = Field(default=0, ge=0)


@handler("eigenvalues", timeout=300, no_retry_on=(ValueError, np.linalg.LinAlgError))
def eigenvalues(request: EigenvaluesRequest) -> dict[str, object]:
    """Return the `largest` eigenvalues, by magnitude, of a symmetric matrix."""
    if request.matrix is None:
        random = np.random.default_rng(request.seed).standard_normal((request.size, request.size))
        matrix = (random + random.T) / 2
    else:
        matrix = np.array(request.matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
        raise ValueError(f"matrix: not square and symmetric, its shape is {matrix.shape}")
    values = np.linalg.eigvalsh(matrix)
    largest = values[np.argsort(-np.abs(values))][: request.largest]
    return {"size": matrix.shape[0], "largest": [float(value) for value in largest], "trace": float(values.sum())}


@handler("price_option", timeout=600)
def price_option(request: OptionRequest, ctx: Context) -> dict[str, object]:
    """Price a European call by Monte Carlo; return the price, its standard error, and Black and Scholes' price."""
    generator = np.random.default_rng(request.seed)
    drift = (request.rate - request.volatility**2 / 2) * request.years
    spread = request.volatility * math.sqrt(request.years)
    done, total, squares = 0, 0.0, 0.0
    while done < request.samples:
        count = min(BATCH, request.samples - done)
        prices = request.spot * np.exp(drift + spread * generator.standard_normal(count))
        gains = np.maximum(prices - request.strike, 0.0)
        done, total, squares = done + count, total + float(gains.sum()), squares + float((gains**2).sum())
        ctx.progress(done / request.samples, f"{done:,} samples")
    discount = math.exp(-request.rate * request.years)
    mean = total / done
    error = math.sqrt(max(squares / done - mean**2, 0.0) / (done - 1))
    return {"price": discount * mean, "standard_error": discount * error, "samples": done,
            "black_scholes": black_scholes(request)}


def black_scholes(request: OptionRequest) -> float:
    """The exact price. Source: F. Black, M. Scholes, The Pricing of Options and Corporate Liabilities, 1973."""
    spread = request.volatility * math.sqrt(request.years)
    d1 = (math.log(request.spot / request.strike) + request.rate * request.years) / spread + spread / 2
    discounted = request.strike * math.exp(-request.rate * request.years)
    return request.spot * _normal(d1) - discounted * _normal(d1 - spread)


def _normal(value: float) -> float:
    return (1 + math.erf(value / math.sqrt(2))) / 2
