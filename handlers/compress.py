"""Compress one file with zlib, bz2 or lzma, and say how much smaller it became.

What this handler shows: a payload typed by a pydantic model, progress, the
logger, and output that is either complete or not there. A task may be killed
at any line and then run again, so nothing is written under its final name
before it is finished.
"""

import bz2
import contextlib
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from engine import Context, handler

CHUNK_BYTES = 1 << 18


class CompressRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    method: Literal["zlib", "bz2", "lzma"] = "zlib"
    level: int = Field(default=6, ge=1, le=9)
    output: Path | None = None  # None: only measure


class Compressor(Protocol):
    """What zlib, bz2 and lzma have in common."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


@handler("compress", timeout=300, no_retry_on=(FileNotFoundError, IsADirectoryError, PermissionError))
def compress(request: CompressRequest, ctx: Context) -> dict[str, object]:
    """Compress `path`, into `output` if one is given; return sizes in bytes and their ratio."""
    bytes_in, bytes_out = 0, 0
    with request.path.open("rb") as source, _complete_or_absent(request.output) as target:
        size = os.fstat(source.fileno()).st_size
        for data, packed in _pieces(source, _compressor(request.method, request.level)):
            bytes_in, bytes_out = bytes_in + len(data), bytes_out + len(packed)
            if target:
                target.write(packed)
            ctx.progress(bytes_in / max(size, bytes_in, 1), f"{bytes_in:,} of {size:,} bytes")
    ratio = round(bytes_in / bytes_out, 3) if bytes_out else None
    ctx.logger.info("%s: %d -> %d bytes", request.path.name, bytes_in, bytes_out)
    return {
        "path": str(request.path),
        "method": request.method,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "ratio": ratio,
        "output": str(request.output) if request.output else None,
    }


def _compressor(method: str, level: int) -> Compressor:
    if method == "zlib":
        return zlib.compressobj(level)
    if method == "bz2":
        return bz2.BZ2Compressor(level)
    return lzma.LZMACompressor(preset=level)


def _pieces(source: BinaryIO, compressor: Compressor) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of what was read and what came out for it; the last one reads nothing and empties the compressor."""
    while data := source.read(CHUNK_BYTES):
        yield data, compressor.compress(data)
    yield b"", compressor.flush()


@contextlib.contextmanager
def _complete_or_absent(path: Path | None) -> Iterator[BinaryIO | None]:
    """A file that takes its name only when the block ends well.

    Every other way out removes it, a `SoftTimeout` or a cancel included. A kill
    leaves `.name.part` behind, which the next run overwrites.
    """
    if path is None:
        yield None
        return
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
