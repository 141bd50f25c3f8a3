"""CPU-heavy work that needs no input and no library: for trying things out.

What these handlers show: the shortest form, and progress with a handler's own
soft timeout. Handlers stay plain functions: `primes({"below": 100})` is a call.
"""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine import Context, handler

SHADES = " .:-=+*#%@"


@handler("primes")
def primes(payload: dict[str, Any]) -> dict[str, Any]:
    """Count the primes below `below` with the sieve of Eratosthenes; return their number and the last ones."""
    below = int(payload["below"])
    if not 2 <= below <= 1_000_000_000:
        raise ValueError(f"below: {below} is not between 2 and 1,000,000,000")
    sieve = bytearray([1]) * below
    sieve[0:2] = b"\0\0"
    for number in range(2, math.isqrt(below - 1) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
    last: list[int] = []
    place = below
    while len(last) < 5 and (place := sieve.rfind(1, 0, place)) >= 0:
        last.append(place)
    return {"below": below, "count": sieve.count(1), "last": last}


class MandelbrotRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=72, ge=1, le=10_000)
    height: int = Field(default=24, ge=1, le=10_000)
    iterations: int = Field(default=200, ge=1, le=100_000)


@handler("mandelbrot", timeout=300)
def mandelbrot(request: MandelbrotRequest, ctx: Context) -> dict[str, Any]:
    """Draw the Mandelbrot set as lines of text."""
    lines = []
    for row in range(request.height):
        imaginary = 2.4 * row / max(request.height - 1, 1) - 1.2
        lines.append("".join(
            _shade(complex(3.2 * column / max(request.width - 1, 1) - 2.2, imaginary), request.iterations)
            for column in range(request.width)
        ))
        ctx.progress((row + 1) / request.height)
    return {"lines": lines}


def _shade(point: complex, iterations: int) -> str:
    """One character for how many steps of z = z² + c keep |z| below 2."""
    z = 0j
    for step in range(iterations):
        z = z * z + point
        if z.real * z.real + z.imag * z.imag > 4.0:
            return SHADES[min(int(math.log2(step + 1)), len(SHADES) - 2)]
    return SHADES[-1]
