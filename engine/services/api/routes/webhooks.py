"""`/webhooks`: URLs that get a message when a task ends."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from engine.client.models import moment
from engine.ports.webhooks import OWN, new_secret
from engine.services.api.context import context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.problems import HttpError
from engine.services.api.http.route import api_router, parse_body, route_spec
from engine.services.api.models.webhooks import Delivery, Webhook, WebhookCreate, WebhookSecret
from engine.services.webhooks.addresses import check_url

WEBHOOKS_MAX = 1_000
SHOWN_MAX = 1_000
router = api_router("webhooks")
WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["5f0c2a9be1d34c77"])]


@router.post("/webhooks", status_code=201, summary="Create a webhook", **route_spec(
    Role.ADMIN, 409, body=WebhookCreate))
async def create_webhook(request: Request) -> Webhook:
    """A message is signed with `secret`, which only this answer has, as Standard Webhooks says: the header
    webhook-signature is "v1," and the HMAC-SHA256 of "webhook-id.webhook-timestamp.body" in base64. A message that is
    not answered with a 2xx within 10 seconds is sent again, for about a day."""
    context, principal = context_of(request), principal_of(request)
    webhook = await parse_body(request, WebhookCreate)
    if webhook.queue is None:
        principal.must_see_all()
    else:
        principal.must_see(webhook.queue)
    check_url(webhook.url, private=context.settings.webhooks_private)
    store = context.webhooks.store
    if len(await context.threads.run(store.all)) >= WEBHOOKS_MAX:
        raise HttpError(409, f"there are {WEBHOOKS_MAX} webhooks already", limit=str(WEBHOOKS_MAX))
    webhook_id = secrets.token_hex(8)
    fields = {**webhook.model_dump(), "secret": new_secret(), "created_at": datetime.now(UTC).isoformat()}
    await context.threads.run(store.add, webhook_id, fields)
    return Webhook(id=webhook_id, **fields)


@router.get("/webhooks", summary="List the webhooks", **route_spec(Role.ADMIN))
async def list_webhooks(request: Request) -> list[Webhook]:
    """Without their secrets."""
    context, principal = context_of(request), principal_of(request)
    found = await context.threads.run(context.webhooks.store.all)
    return [Webhook(id=webhook_id, **{**fields, "secret": None}) for webhook_id, fields in found.items()
            if webhook_id != OWN and _sees(principal, fields)]


@router.get("/webhook/secret", summary="What messages to tasks' own webhooks are signed with", **route_spec(Role.ADMIN))
async def get_task_webhook_secret(request: Request) -> WebhookSecret:
    """One for all tasks, made when it is first needed."""
    context = context_of(request)
    principal_of(request).must_see_all()
    return WebhookSecret(secret=await context.threads.run(context.webhooks.store.own_secret))


@router.post("/webhook/secret", summary="Sign messages to tasks' own webhooks with another secret",
             **route_spec(Role.ADMIN))
async def renew_task_webhook_secret(request: Request) -> WebhookSecret:
    """From now on."""
    context = context_of(request)
    principal_of(request).must_see_all()
    return WebhookSecret(secret=await context.threads.run(lambda: context.webhooks.store.own_secret(renewed=True)))


@router.delete("/webhooks/{webhook_id}", status_code=204, summary="Delete a webhook", **route_spec(
    Role.ADMIN, 404, response_class=Response))
async def delete_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """Messages to it that are under way are dropped."""
    context, principal = context_of(request), principal_of(request)
    fields = (await context.threads.run(context.webhooks.store.all)).get(webhook_id)
    if fields is None or not _sees(principal, fields) or not await context.threads.run(
            context.webhooks.store.remove, webhook_id):
        raise HttpError(404, "there is no such webhook")
    return Response(status_code=204)


@router.get("/webhook/deliveries", summary="List the messages that have not been delivered", **route_spec(Role.ADMIN))
async def list_webhook_deliveries(request: Request) -> list[Delivery]:
    """The next 1,000, each with the number of its tries and the last error. Those given up are in the engine's log."""
    context = context_of(request)
    principal_of(request).must_see_all()
    found = await context.threads.run(context.webhooks.store.under_way, SHOWN_MAX)
    return [Delivery(id=name, webhook=one["webhook"], url=one["url"], task_id=one["task_id"], status=one["status"],
                     tries=one["tries"], due_at=moment(one["due_ms"]), last_error=one.get("last_error"))
            for name, one in found.items()]


def _sees(principal: Any, fields: dict[str, Any]) -> bool:
    return principal.queues is None or principal.sees(fields.get("queue") or "*")
