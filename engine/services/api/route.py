"""How an endpoint is declared: its role, its body and its problems, which OpenAPI and the guard both go by."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import GangerError
from engine.services.api import problems
from engine.services.api.access import Role
from engine.services.api.desk import guest_of
from engine.services.api.problems import Refused

Model = TypeVar("Model", bound=BaseModel)
FIELDS_MAX = 20  # told of one refusal

ALWAYS = (400, 401, 403, 422, 429, 503)  # any call may be answered so
BODIES: set[type[BaseModel]] = set()


class Route(APIRoute):
    """Refuses who may not, and tells every error of the engine as problem details."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        role = Role[(self.openapi_extra or {}).get("x-role", "ADMIN").upper()]

        async def handle(request: Request) -> Response:
            return await answered(request, role, inner)

        return handle


async def answered(request: Request, role: Role, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """The answer to a call by whoever may make it; a refusal is an answer too."""
    try:
        guest_of(request).must_be(role)
        return await call(request)
    except RequestValidationError as error:
        return problems.response(_not_acceptable(error.errors()), request.url.path)
    except GangerError as error:
        return problems.response(error, request.url.path)


def noun(tag: str) -> APIRouter:
    """A router for the endpoints of one noun."""
    return APIRouter(tags=[tag], route_class=Route)


def told(role: Role, *statuses: int, body: type[BaseModel] | None = None, body_required: bool = True,
         **more: Any) -> dict[str, Any]:
    """Keyword arguments of a route: who may, what may go wrong, what comes in."""
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


async def given(request: Request, model: type[Model], *, required: bool = True) -> Model:
    """The body of a request. Raises `Refused` for one that is not JSON, or not what the model asks for."""
    raw = await request.body()
    if not raw and not required:
        raw = b"{}"
    elif request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "a body has to be application/json", limit="application/json")
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        if details[0]["type"] == "json_invalid":
            raise Refused(400, f"the body is not JSON: {details[0]['msg'].partition(': ')[2]}", field="body") from None
        raise _not_acceptable(details) from None


def _not_acceptable(details: Any) -> Refused:
    fields = [_field(detail) for detail in details[:FIELDS_MAX]]
    first = fields[0]
    return Refused(422, f"{first['field']}: {first['detail']}", field=first["field"], limit=first.get("limit"),
                   fields=fields)


def _field(detail: dict[str, Any]) -> dict[str, Any]:
    path = [str(part) for part in detail["loc"] if part not in ("body", "query", "path", "header")]
    limits = {name: value for name, value in (detail.get("ctx") or {}).items() if name != "error"}
    limit = ", ".join(f"{name} {value}" for name, value in limits.items())
    field = {"field": ".".join(path) or "body", "detail": str(detail["msg"])[:500]}
    return {**field, "limit": limit[:500]} if limit else field
