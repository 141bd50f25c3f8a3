"""Runs the API on uvicorn: where it listens, and whether it may without keys."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from engine.client.provider import RedisBrokerProvider
from engine.config import Settings
from engine.errors import EngineError
from engine.services import composition
from engine.services.api.app import create_app
from engine.services.api.context import ApiContext
from engine.services.api.http.authentication import is_loopback, marked_table
from engine.services.api.http.protocol import bounded
from engine.services.redis_log import keep_log

BACKLOG = 2048
DRAIN_S = 5  # for requests under way at the end

log = logging.getLogger("ganger.execution")


class ApiServer(uvicorn.Server):
    """A server of uvicorn that leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config, context: ApiContext) -> None:
        super().__init__(config)
        self.context = context

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, which have no end by themselves, then end as uvicorn does."""
        self.context.hang_up()
        await super().shutdown(sockets)


def listen(settings: Settings, *, beside_predecessor: bool = False) -> socket.socket:
    """Return a socket that listens where the settings say.

    Args:
        beside_predecessor: whether another API of this engine may listen there: at a reload the successor listens
            before its predecessor ends.

    Raises: `EngineError` that says why nobody can listen there.
    """
    host, port = settings.api_host, settings.api_port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not beside_predecessor:
            with socket.socket(family, kind) as probe:  # so that two engines do not share a port by accident
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise EngineError(f"the API cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of the API behind a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/api/v1"


def check_open(settings: Settings) -> str | None:
    """Return what to warn of once the API listens, if anything.

    Raises: `EngineError` where everybody who can reach this host could use the engine.
    """
    provider = RedisBrokerProvider(settings)
    try:
        broker = provider.broker()
        table = marked_table(broker.api_keys)
    finally:
        provider.close()
    if table.is_keyed:
        return None if table.keys else (
            "the API refuses every call: its last key was revoked; make one with ganger keys create, "
            "or let it serve without keys with ganger keys open")
    if not is_loopback(settings.api_host) and not settings.api_open:
        raise EngineError(f"the API would serve every caller who can reach {settings.api_host}: make a key first "
                          "(ganger keys create NAME --role admin), or allow it with --open")
    return "the API serves everybody who can reach it: there are no keys"


def log_listening(url: str, warning: str | None) -> None:
    """Log where the API listens, and the warning of `check_open`."""
    log.info("the API listens", extra={"url": url})
    if warning:
        log.warning(warning, extra={"url": url})


def make_server(settings: Settings, *, is_child: bool = False) -> ApiServer:
    """Return a server that is ready to serve a socket on the running event loop."""
    context = ApiContext(settings, is_child=is_child)
    config = uvicorn.Config(
        create_app(context), http=bounded(settings.api_timeout_s), log_config=None, access_log=False,
        server_header=False, proxy_headers=False, lifespan="on", timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_S, ws="none", limit_concurrency=None)
    return ApiServer(config, context)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises `EngineError`, `BrokerError`."""
    warning = check_open(settings)
    listener = listen(settings)
    keep_log(composition.engine_log(settings), "api")
    log_listening(url_of(listener), warning)
    server = make_server(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(server, listener))
    return 0 if server.started else 1


async def _until_signalled(server: ApiServer, listener: socket.socket) -> None:
    """The first signal lets requests under way finish, a second one does not."""
    def stop() -> None:
        server.force_exit, server.should_exit = server.should_exit, True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await server.serve([listener])
