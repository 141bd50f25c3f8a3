"""How an endpoint is declared: its role, its body and its problems, by which it is documented and checked."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.core.task.names import did_you_mean
from engine.errors import GangerError
from engine.services.api.context import principal_of
from engine.services.api.http import bodies, problems
from engine.services.api.http.authentication import Role
from engine.services.api.http.problems import HttpError

Model = TypeVar("Model", bound=BaseModel)

GONE = 499  # the caller has gone and reads no answer: for the audit log only
ALWAYS = (400, 401, 403, 422, 429, 503)  # any call may be answered so
BODIES: set[type[BaseModel]] = set()


class ApiRoute(APIRoute):
    """Checks the role of the caller and the names of parameters, and answers every error with problem details."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        role, known = _role(self), {field.alias for field in self.dependant.query_params}

        async def checked(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    hint = did_you_mean(name, known) or f"; there is {', '.join(sorted(known)) or 'none'}"
                    raise HttpError(422, f"there is no parameter {name[:80]!r}{hint}", field=name[:80],
                                    limit=", ".join(sorted(known)) or "no parameters")
            return await inner(request)

        async def handle(request: Request) -> Response:
            return await answered(request, role, checked)

        return handle


def _role(route: APIRoute) -> Role:
    return Role[(route.openapi_extra or {}).get("x-role", "ADMIN").upper()]


def role_of(router: APIRouter, endpoint: Callable[..., Any]) -> Role:
    """Return the least role that may use an endpoint, as its route says."""
    return next(_role(one) for one in router.routes if isinstance(one, APIRoute) and one.endpoint is endpoint)


async def answered(request: Request, role: Role, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Return the answer to a request.

    Args:
        role: the least role that may make it.
        call: makes the answer.

    Raises: `HTTPException` of the router alone: every other error is an answer too.
    """
    try:
        principal_of(request).must_be(role)
        return await call(request)
    except RequestValidationError as error:
        return problems.response(bodies.not_acceptable(error.errors()), request.url.path)
    except GangerError as error:
        return problems.response(error, request.url.path)
    except ClientDisconnect:
        return Response(status_code=GONE)
    except HTTPException:
        raise
    except Exception as error:  # noqa: BLE001  a fault of ours: it is logged, and answered like all others
        return problems.response(error, request.url.path)


def api_router(tag: str) -> APIRouter:
    """Return a router whose endpoints are shown under `tag` in the document."""
    return APIRouter(tags=[tag], route_class=ApiRoute)


def route_spec(role: Role, *statuses: int, body: type[BaseModel] | None = None, body_required: bool = True,
               **more: Any) -> dict[str, Any]:
    """Return the keyword arguments of a route.

    Args:
        role: the least role that may use it.
        statuses: of the problems that it may answer with, beside those of every endpoint.
        body: the model of the body that it is sent.
        more: other arguments of the route, such as `responses`.
    """
    extra: dict[str, Any] = {"x-role": role.name.lower()}
    if role is not Role.NONE:
        extra["security"] = [{"key": []}]
    if body is not None:
        BODIES.add(body)
        statuses = (*statuses, 413, 415)
        extra["requestBody"] = {"required": body_required, "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}}
    responses = problems.documented(*sorted({*ALWAYS, *statuses}))
    return {"openapi_extra": extra, "responses": {**responses, **more.pop("responses", {})}, **more}


async def parse_body(request: Request, model: type[Model], *, required: bool = True) -> Model:
    """Return the body of a request.

    Args:
        model: what the body has to be.
        required: whether there has to be one; else a missing body is `{}`.

    Raises: `HttpError` for a body that is not JSON, or not what the model asks for.
    """
    return await bodies.read(request, model, required=required)
