"""Errors as RFC 9457 problem details: one table from the engine's errors to statuses of HTTP."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from engine.errors import (
    BrokerError,
    BrokerFull,
    DurabilityUnavailable,
    EngineError,
    GangerError,
    IdempotencyConflict,
    InvalidInput,
    MoveRefused,
    PayloadTooLarge,
    ResultNotReady,
    TaskFailed,
    TaskNotFound,
)

MEDIA_TYPE = "application/problem+json"
RETRY_S = 1  # what Retry-After says while Redis is away

TITLES = {  # of about:blank: the phrases of RFC 9110
    304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 412: "Precondition Failed",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content", 424: "Failed Dependency",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}
errors = logging.getLogger("ganger.errors")


class FieldProblem(BaseModel):
    """One field that is not acceptable."""

    field: str = Field(examples=["timeout"])
    detail: str = Field(examples=["timeout -1 is not acceptable: it must be a number of seconds from 0 to 3155760000"])
    limit: str | None = Field(default=None, examples=["a number of seconds from 0 to 3155760000"])


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["cannot retry task 01H5RC2K8D7QZ3V0M4T: it is RUNNING"])
    instance: str | None = Field(default=None, examples=["/api/v1/tasks/01H5RC2K8D7QZ3V0M4T/retry"])
    field: str | None = None
    value: str | None = None
    limit: str | None = None
    task_id: str | None = None
    task_status: str | None = Field(default=None, description="Where the task is now.")
    fields: list[FieldProblem] | None = None


class HttpError(GangerError):
    """An error with a status of HTTP.

    Args:
        status: the answer's.
        detail: what was wrong, for people.
        facts: more fields of the problem details; None is left out.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.status, self.facts, self.headers = status, facts, dict(headers or {})


def of(error: Exception) -> HttpError:
    """Return the answer to an error. An unknown error is our own fault: the log says what it was, the caller does not
    hear it."""
    match error:
        case HttpError():
            return error
        case PayloadTooLarge():
            return HttpError(413, str(error), field=error.field, value=error.value, limit=error.limit)
        case IdempotencyConflict():
            return HttpError(409, str(error), field=error.field, value=error.value, limit=error.limit)
        case InvalidInput():
            return HttpError(422, str(error), field=error.field, value=error.value or None, limit=error.limit or None)
        case TaskNotFound():
            return HttpError(404, "no task has this id: it was never submitted, was deleted, or its TTL is over",
                             task_id=str(error.task_id)[:80])
        case MoveRefused():
            return HttpError(409, str(error), task_id=error.task_id, task_status=str(error.status))
        case ResultNotReady():
            return HttpError(409, str(error), task_id=error.task_id, task_status=str(error.status))
        case TaskFailed():
            return HttpError(409, str(error), task_id=error.task_id, task_status=str(error.status))
        case DurabilityUnavailable():
            return HttpError(409, str(error), field="durability")
        case BrokerFull():
            return HttpError(429, str(error), headers={"Retry-After": "5"})
        case BrokerError() | EngineError() | TimeoutError():
            return HttpError(503, str(error) or "it was not done in time", headers={"Retry-After": str(RETRY_S)})
        case _:
            errors.error("a request failed by an unexpected error", exc_info=error)
            return HttpError(500, "something went wrong here; the server's log says what")


def as_dict(refused: HttpError, instance: str | None = None) -> dict[str, Any]:
    """Return the problem details of an error; `instance` is the path of the request."""
    details = {"type": "about:blank", "title": TITLES.get(refused.status, "Error"), "status": refused.status,
            "detail": str(refused), "instance": instance, **refused.facts}
    return {name: value for name, value in details.items() if value is not None}


def response(error: Exception, instance: str | None = None) -> Response:
    """Return the whole answer to an error."""
    refused = of(error)
    body = orjson.dumps(as_dict(refused, instance), default=str)
    return Response(body, refused.status, headers=refused.headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of the OpenAPI document for the problems that an operation may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}
