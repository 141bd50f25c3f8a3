"""Puts the API together: the routes of every resource, the document that describes them, the security middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp

from engine.services.api import reference
from engine.services.api.context import ApiContext
from engine.services.api.fast_path import FastPath
from engine.services.api.http import problems, route
from engine.services.api.http.security import SecurityMiddleware
from engine.services.api.routes import ROOT_ROUTERS, ROUTERS
from engine.services.composition import engine_version

BASE = "/api/v1"
DESCRIPTION = """
Submit tasks, follow them, and operate the engine.

Every error is answered with problem details (RFC 9457). Where there are keys, send one as `Authorization: Bearer KEY`;
`x-role` of an operation is the least role that may use it: read, submit, operate, admin.
"""


def create_app(context: ApiContext) -> ASGIApp:
    """Return the whole application."""
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await context.open()
        yield
        await context.close()

    app = FastAPI(title="Ganger", version=engine_version(), lifespan=lifespan, docs_url=None, redoc_url=None,
                  openapi_url=f"{BASE}/openapi.json", redirect_slashes=False,
                  generate_unique_id_function=lambda one: one.name)  # what generated clients call it
    for router in ROUTERS:
        app.include_router(router, prefix=BASE)
    for router in ROOT_ROUTERS:
        app.include_router(router)
    methods = _methods()

    async def refuse(request: Request, error: Exception) -> Response:
        """Answer what the router itself refuses: an unknown path, a method that is not there."""
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(methods, request.url.path))
        return problems.response(problems.HttpError(error.status_code, str(error.detail), headers=headers),
                                 request.url.path)

    app.add_exception_handler(HTTPException, refuse)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_route(f"{BASE}/docs", lambda request: HTMLResponse(_page(app)), methods=["GET"], include_in_schema=False)
    guarded: ASGIApp = SecurityMiddleware(FastPath(app), context)
    origins = [part.strip() for part in context.settings.api_cors_origins.split(",") if part.strip()]
    if origins:
        guarded = CORSMiddleware(guarded, allow_origins=origins, allow_methods=["*"], allow_headers=["*"],
                                 expose_headers=["ETag", "Location", "Retry-After"])
    return guarded


def _methods() -> dict[str, set[str]]:
    """Return the methods of each path: the router itself names those of one route only."""
    methods: dict[str, set[str]] = {}
    for base, routers in ((BASE, ROUTERS), ("", ROOT_ROUTERS)):
        for endpoint in (endpoint for router in routers for endpoint in router.routes):
            if isinstance(endpoint, Route):
                methods.setdefault(base + endpoint.path, set()).update(endpoint.methods or ())
    return methods


def _allowed(methods: dict[str, set[str]], path: str) -> list[str]:
    """Return the methods of a path; if several templates match it, of the one with the fewest parameters."""
    found = [template for template in methods if compile_path(template)[0].match(path)]
    allowed = methods[min(found, key=lambda template: template.count("{"))] if found else set()
    return sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the models of bodies, which FastAPI does not parse."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        models: set[type[BaseModel]] = {problems.Problem, *route.BODIES}
        for model in sorted(models, key=lambda model: model.__name__):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema


def _page(app: FastAPI) -> str:
    """Return the document as a page, made for the first request."""
    if not hasattr(app.state, "page"):
        app.state.page = reference.page(_document(app))
    return str(app.state.page)
