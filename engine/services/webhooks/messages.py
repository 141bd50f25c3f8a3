"""Messages to webhooks: which webhooks an end is for, what a message says, how it is signed. Pure.

The form is that of Standard Webhooks (https://www.standardwebhooks.com), so that its libraries can verify it.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from engine.client.models import moment
from engine.core.task.event import Event
from engine.core.task.stored_task import StoredTask
from engine.ports.webhooks import OWN

Message = dict[str, Any]


def statuses_of(webhooks: Mapping[str, Mapping[str, Any]]) -> frozenset[str] | None:
    """Return the statuses that these webhooks are for; None where tasks have webhooks of their own, for any status."""
    if OWN in webhooks:
        return None
    return frozenset(status for webhook in webhooks.values() for status in webhook["on"])


def messages_of(entry_id: str, event: Event, stored: StoredTask,
                webhooks: Mapping[str, Mapping[str, Any]]) -> dict[str, Message]:
    """Return a message for each webhook that this end is for.

    Args:
        entry_id: of the entry of the stream that has the event.
        webhooks: all there are, by id.

    Returns: the messages by an id that is always the same for this end and webhook.
    """
    record, found = stored.record, {}
    own = record.options.get("webhook")
    message = {"task_id": stored.id, "status": str(event.status), "tries": 0, "body": _body(entry_id, event, stored)}
    if own and event.status in own["on"]:
        found[f"{entry_id}.{stored.id}.{OWN}"] = {**message, "webhook": None, "url": own["url"]}
    for webhook_id, webhook in webhooks.items():
        if webhook_id != OWN and event.status in webhook["on"] and _matches(webhook, stored):
            found[f"{entry_id}.{stored.id}.{webhook_id}"] = {**message, "webhook": webhook_id, "url": webhook["url"]}
    return found


def _matches(webhook: Mapping[str, Any], stored: StoredTask) -> bool:
    record = stored.record
    return (webhook.get("task_type") in (None, record.task_type) and webhook.get("queue") in (None, record.queue)
            and (webhook.get("tag") is None or webhook["tag"] in record.options.get("tags", ())))


def _body(entry_id: str, event: Event, stored: StoredTask) -> dict[str, Any]:
    record, outcome = stored.record, stored.outcome or {}
    if outcome.get("run") not in (None, event.run):
        outcome = {}  # the task was run again meanwhile
    at = moment(float(entry_id.partition("-")[0]))
    return {"type": f"task.{event.status.lower()}", "timestamp": at.isoformat(), "data": {
        "id": stored.id, "task_type": record.task_type, "name": record.options.get("name"), "queue": record.queue,
        "tags": record.options.get("tags", []), "status": str(event.status), "run": event.run,
        "cause": outcome.get("cause"), "error": outcome.get("error")}}


def signed(message_id: str, at_s: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of a message: its id, when it is sent, and HMAC-SHA256 of "id.timestamp.body".

    Args:
        at_s: seconds since 1970.
        secret: of the webhook, in the form of Standard Webhooks.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{at_s}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"Content-Type": "application/json", "User-Agent": "ganger", "webhook-id": message_id,
            "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{signature}"}
