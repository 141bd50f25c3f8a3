"""Messages to webhooks: who is to hear of an end, what is said, how it is signed. Pure.

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


def wanted_ends(known: Mapping[str, Mapping[str, Any]]) -> frozenset[str] | None:
    """The statuses that any of these webhooks wants to hear of; None where tasks have their own, which may want any."""
    if OWN in known:
        return None
    return frozenset(status for hook in known.values() for status in hook["on"])


def messages_of(entry_id: str, event: Event, stored: StoredTask,
                known: Mapping[str, Mapping[str, Any]]) -> dict[str, Message]:
    """One for each webhook that wants to hear of this end, by an id that is always the same for it."""
    record, found = stored.record, {}
    own = record.options.get("webhook")
    message = {"task_id": stored.id, "status": str(event.status), "tries": 0, "body": _body(entry_id, event, stored)}
    if own and event.status in own["on"]:
        found[f"{entry_id}.{stored.id}.{OWN}"] = {**message, "webhook": None, "url": own["url"]}
    for hook_id, hook in known.items():
        if hook_id != OWN and event.status in hook["on"] and _agrees(hook, stored):
            found[f"{entry_id}.{stored.id}.{hook_id}"] = {**message, "webhook": hook_id, "url": hook["url"]}
    return found


def _agrees(hook: Mapping[str, Any], stored: StoredTask) -> bool:
    record = stored.record
    return (hook.get("task_type") in (None, record.task_type) and hook.get("queue") in (None, record.queue)
            and (hook.get("tag") is None or hook["tag"] in record.options.get("tags", ())))


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
    """The headers of a message: its id, when it was sent, and HMAC-SHA256 of "id.timestamp.body"."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{at_s}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"Content-Type": "application/json", "User-Agent": "ganger", "webhook-id": message_id,
            "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{signature}"}
