"""A TCP proxy that is far away: `python -m bench.delay HOST PORT SECONDS` passes everything on, each way late by that.

Instead of `tc netem`, which needs root and would slow down whatever else uses the machine's loopback. It delays and
does not narrow: what comes while something waits follows at its own time. It takes CPU of the same machine, which
counts against the figures taken through it.
"""

import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections.abc import Iterator

CHUNK_BYTES = 1 << 18


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
    loop = asyncio.get_running_loop()
    while chunk := await reader.read(CHUNK_BYTES):
        loop.call_later(late_s, writer.write, chunk)
    loop.call_later(late_s, writer.close)


async def _serve(host: str, port: int, late_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_pump(reader, to_writer, late_s), _pump(to_reader, writer, late_s),
                             return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def delayed(host: str, port: int, late_s: float) -> Iterator[int]:
    """Run the proxy in a process of its own; give its port."""
    process = subprocess.Popen([sys.executable, "-m", "bench.delay", host, str(port), str(late_s)],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    # select() waits to the microsecond, where asyncio's epoll rounds up to milliseconds
    loop = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector()))
    with contextlib.suppress(KeyboardInterrupt), loop:
        loop.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
