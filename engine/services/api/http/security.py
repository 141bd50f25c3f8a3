"""Checks every request before the endpoints: its caller, and how often, how large and how long it may be.

1. Identify the caller, and take a token of its rate.
2. Bound the body and the time.
3. Turn every error that the endpoints let through into problem details: no caller ever sees a traceback.
4. Add security headers to every answer.
5. Write each call that may change something to the audit log.

It is plain ASGI, since every request passes it.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.services.api.context import ApiContext
from engine.services.api.http import problems
from engine.services.api.http.authentication import ANYBODY, NOBODY, NotAuthenticated, Principal, is_forwarded
from engine.services.api.http.problems import HttpError
from engine.services.api.http.route import GONE
from engine.services.api.reference import POLICY

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = frozenset({"/api/v1/scheduler/health", "/api/v1/openapi.json", "/api/v1/docs"})
HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"), (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
DOCS = "/api/v1/docs"
METRICS = "/metrics"  # says that Redis is away, so a key is good here that was one when the keys were read last
BODIES_MAX = 8  # of the largest size that are in memory at once,
BODY_BYTES_FREE = 65_536  # beside those that are so small
FAILURES_PER_S, FAILURES_AT_ONCE = 10.0, 200.0  # calls without a valid key, of one address: the rest gets 429
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

audit = logging.getLogger("ganger.audit")


class SecurityMiddleware:
    """ASGI middleware; other scopes than http and lifespan end here."""

    def __init__(self, app: ASGIApp, context: ApiContext) -> None:
        self.app, self.context = app, context
        self.origins = frozenset(part.strip() for part in context.settings.api_cors_origins.split(",") if part.strip())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # answered as GET is; uvicorn sends no body
            scope = {**scope, "method": "GET", "is_head": True}
        call = _Call(scope, receive, send, self.context)
        principal = NOBODY
        try:
            principal = self._admit(scope)
            scope["principal"], scope["context"] = principal, self.context
            async with asyncio.timeout(self.context.settings.api_timeout_s) as deadline:
                scope["deadline"] = deadline
                call.check_length()
                await self.app(scope, call.receive, call.send)
        except ClientDisconnect:
            call.status = GONE
        except Exception as error:
            if call.status is None:
                await problems.response(call.reason_for(error), scope["path"])(scope, receive, call.send)
            elif not isinstance(error, TimeoutError):
                raise
        finally:
            call.close()
            if scope["method"] not in SAFE:
                _write_down(scope, principal, call.status)

    def _admit(self, scope: Scope) -> Principal:
        """Raises `HttpError`."""
        headers = _some(scope["headers"], (b"authorization", b"origin", b"host"))
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise HttpError(400, "the request has more than one Host header", field="host")
        self._check_origin(scope, headers)
        address = (scope.get("client") or ("unknown",))[0]
        if scope["path"] in PUBLIC or scope["method"] == "OPTIONS":
            self.context.rate_limiter.take(f"public {address}", self.context.settings.api_rate_per_s)
            return NOBODY
        principal = self._identify(scope, headers.get(b"authorization"), address)
        caller = principal.name if principal is not ANYBODY else address
        self.context.rate_limiter.take(caller, principal.rate_per_s or self.context.settings.api_rate_per_s)
        return principal

    def _identify(self, scope: Scope, authorization: bytes | None, address: str) -> Principal:
        """Raises `HttpError`."""
        try:
            principal = self.context.authenticator.identify(authorization, may_be_stale=scope["path"] == METRICS)
        except NotAuthenticated as error:
            self.context.rate_limiter.take(f"no key {address}", FAILURES_PER_S, FAILURES_AT_ONCE)
            audit.warning("not authenticated", extra={
                "who": NOBODY.name, "what": f"{scope['method']} {scope['path'][:200]}", "from": address,
                "status": error.status, "reason": str(error)})
            raise
        if principal is ANYBODY and not self.context.settings.api_open and is_forwarded(
                name for name, _ in scope["headers"]):
            raise HttpError(403, "this API has no keys and serves this host only, and a proxy passed this request on: "
                            "make a key (ganger keys create NAME --role ROLE), or allow it with api_open")
        return principal

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Where nobody needs a key, a web page must not be able to act through its visitor's browser."""
        host = headers.get(b"host", b"").decode("latin-1")
        authenticator = self.context.authenticator
        if authenticator.is_local and not authenticator.wants_keys and _name(host) not in LOCAL_NAMES:
            raise HttpError(403, "this API serves this host only, and was called by another name")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and scope["method"] not in SAFE and not self.origins & {origin, "*"} \
                and urlsplit(origin).netloc != host:
            raise HttpError(403, "web pages of this origin may not use this API (api_cors_origins)")


class _Call:
    """One request: counts what comes in, marks what goes out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: ApiContext) -> None:
        self._scope, self._receive, self._send, self._context = scope, receive, send, context
        self._bytes, self._bytes_max = 0, context.settings.api_body_bytes_max
        self._awaits_body = False
        self.status: int | None = None

    def check_length(self) -> None:
        """Raises `HttpError`."""
        length = _some(self._scope["headers"], (b"content-length",)).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._bytes_max:
            raise self._too_large()

    async def receive(self) -> Message:
        self._awaits_body = True
        message = await self._receive()
        self._awaits_body = False
        size = len(message.get("body", b""))
        self._bytes += size
        self._context.body_bytes += size
        if self._bytes > self._bytes_max:
            raise self._too_large()
        if self._bytes > BODY_BYTES_FREE and self._context.body_bytes > BODIES_MAX * self._bytes_max:
            raise HttpError(503, "too many large bodies are under way", headers={
                "Retry-After": "1", "Connection": "close"})
        return message

    def close(self) -> None:
        """Its body is not in memory any more."""
        self._context.body_bytes -= self._bytes

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._scope["path"] == DOCS:
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            own = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(header for header in HEADERS if header[0] not in own)]
        await self._send(message)

    def reason_for(self, error: Exception) -> Exception:
        """A body that does not come is not a fault of ours."""
        if isinstance(error, TimeoutError) and self._awaits_body:
            return HttpError(408, "the body did not arrive in time", headers={"Connection": "close"})
        return error

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body is larger than {self._bytes_max} bytes", field="body",
                         limit=f"{self._bytes_max} bytes", headers={"Connection": "close"})


def _write_down(scope: Scope, principal: Principal, status: int | None) -> None:
    audit.info("call", extra={
        "who": principal.name, "what": f"{scope['method']} {scope['path'][:200]}", "status": status,
        "from": (scope.get("client") or ("unknown",))[0], **scope.get("audit", {})})


def _some(headers: Iterable[tuple[bytes, bytes]], names: tuple[bytes, ...]) -> dict[bytes, Any]:
    return {name: value for name, value in headers if name in names}


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
