"""Bodies of requests: from bytes to a model, at a bounded cost.

1. A small body is read at once. A large one is read in a thread, one after the other, so that the event loop goes on.
2. A large body with too many keys is refused before it is parsed.
3. Unknown fields are looked for first: a model would make an error of each of hundreds of thousands.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from engine.core.task.names import did_you_mean
from engine.services.api.context import context_of
from engine.services.api.http.problems import HttpError

SMALL_BYTES = 16_384
KEYS_MAX = 100_000  # of all objects in one body
FIELDS_MAX = 20  # named by one refusal

Model = TypeVar("Model", bound=BaseModel)
# A text, and the colon behind it if it is a key. Nothing is tried twice, and a text without an end is one match: so the
# cost is linear, whatever is in the body.
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"\s*+(:?)|\\?\Z)', re.DOTALL)


async def read(request: Request, model: type[Model], *, required: bool = True) -> Model:
    """As `parse_body` of engine.services.api.http.route."""
    raw = await request.body()
    if not raw and not required:
        raw = b"{}"
    else:
        _check_kind(request)
    if len(raw) <= SMALL_BYTES:
        return validated(model, raw)
    context = context_of(request)
    async with context.large_bodies:
        return await context.threads.run(_large, model, raw)


def _check_kind(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise HttpError(415, f"a body has to come as it is, and not in the encoding {encoding[:40]!r}",
                        field="content-encoding", limit="identity", headers={"Accept-Encoding": "identity"})
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, "a body has to be application/json", limit="application/json")


def validated(model: type[Model], raw: bytes) -> Model:
    """Parse and check a body. Raises `HttpError`."""
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        if details[0]["type"] == "json_invalid":
            reason = details[0]["msg"].partition(": ")[2]
            raise HttpError(400, f"the body is not JSON: {reason}", field="body") from None
        raise not_acceptable(_with_hints(model, details)) from None


def item(model: type[Model], value: Any) -> Model:
    """Check one of several values of a body that was parsed already. Raises `HttpError`."""
    refuse_unknown(model, value)
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        raise not_acceptable(_with_hints(model, error.errors(include_url=False))) from None


def _large(model: type[Model], raw: bytes) -> Model:
    """In a thread."""
    if raw.count(b":") > KEYS_MAX and sum(1 for _ in islice(_keys(raw), KEYS_MAX + 1)) > KEYS_MAX:
        raise HttpError(413, f"the body has more than {KEYS_MAX} keys", field="body", limit=f"{KEYS_MAX} keys")
    try:
        value = from_json(raw)
    except ValueError as error:
        raise HttpError(400, f"the body is not JSON: {error}", field="body") from None
    if getattr(model, "is_plain", False):
        return item(model, value)
    refuse_unknown(model, value)
    return validated(model, raw)


def _keys(raw: bytes) -> Iterator[bytes]:
    return (found.group(1) for found in _KEY.finditer(raw) if found.group(1))


def refuse_unknown(model: type[BaseModel], value: Any) -> None:
    """Raise `HttpError` for fields that a model and the models within it do not have; it names the first few."""
    found = list(islice(_unknown(model, value, ()), FIELDS_MAX))
    if found:
        raise not_acceptable([{"loc": path, "msg": _no_field(model, path)} for path in found])


def _unknown(model: type[BaseModel], value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(value, dict):
        return
    known = model.model_fields
    for name in value:
        if name not in known:
            yield (*path, name[:200])
    for name, field in known.items():
        for inner in _models(field.annotation):
            yield from _unknown(inner, value.get(name), (*path, name))


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _models(part)]


def _with_hints(model: type[BaseModel], details: Iterable[Any]) -> list[dict[str, Any]]:
    """What pydantic found, with the nearest name in place of its words for an unknown field."""
    return [{**detail, "msg": _no_field(model, detail["loc"])} if detail["type"] == "extra_forbidden" else dict(detail)
            for detail in islice(details, FIELDS_MAX)]


def _no_field(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    *parents, name = path
    owners = [model]
    for parent in parents:
        if isinstance(parent, str):
            fields = [owner.model_fields[parent] for owner in owners if parent in owner.model_fields]
            owners = [inner for field in fields for inner in _models(field.annotation)]
    return "there is no such field" + did_you_mean(str(name)[:80], [known for owner in owners
                                                                     for known in owner.model_fields])


def not_acceptable(details: Any) -> HttpError:
    """Return what pydantic found, in the API's form."""
    fields = [_field(detail) for detail in details[:FIELDS_MAX]]
    first = fields[0]
    return HttpError(422, f"{first['field']}: {first['detail']}", field=first["field"], limit=first.get("limit"),
                     fields=fields)


def _field(detail: dict[str, Any]) -> dict[str, Any]:
    path = [str(part) for part in detail["loc"] if part not in ("body", "query", "path", "header")]
    limits = {name: value for name, value in (detail.get("ctx") or {}).items() if name != "error"}
    limit = ", ".join(f"{name} {value}" for name, value in limits.items())
    field = {"field": ".".join(path) or "body", "detail": str(detail["msg"])[:500]}
    return {**field, "limit": limit[:500]} if limit else field
