"""`/metrics`: the engine as a whole, for Prometheus. It is where Prometheus looks by default, outside of `/api/v1`."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from engine.services.api.context import context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.route import api_router, route_spec
from engine.services.metrics import prometheus

router = api_router("scheduler")


@router.get("/metrics", summary="For Prometheus", **route_spec(Role.READ, response_class=Response, responses={200: {
    "description": "Metrics in Prometheus's text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}}))
async def get_prometheus_metrics(request: Request) -> Response:
    """Answered also while Redis is away, with `ganger_redis_up 0`."""
    context = context_of(request)
    principal_of(request).must_see_all()
    text = await context.threads.run(prometheus.exposition, context.metrics.prometheus, context.provider)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
