"""Webhooks: URLs that get a message when a task ends."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from engine.services.api.models.base import Queue, RequestModel, ResponseModel, Text

# A name or address, a port, and any visible ASCII characters: what goes out is what was given.
URL = (r"^https?://([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
       r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}))?([/?][!-~]*)?$")
End = Literal["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]
Url = Annotated[str, Field(min_length=8, max_length=2048, pattern=URL,
                           examples=["https://example.org/hooks/ganger"])]
Ends = Annotated[list[End], Field(min_length=1, max_length=4)]
ENDS: list[End] = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"]


class TaskWebhook(RequestModel):
    """The webhook of one task."""

    url: Url
    on: Ends = Field(default_factory=lambda: list(ENDS))

    def stored(self) -> dict[str, Any]:
        return {"url": self.url, "on": list(self.on)}


class WebhookCreate(RequestModel):
    """A webhook for every task that matches the fields that are set."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"url": "https://example.org/hooks/ganger", "on": ["FAILED", "TIMEOUT"], "queue": "images"}]})

    url: Url
    on: Ends = Field(default_factory=lambda: list(ENDS))
    task_type: Text | None = None
    queue: Queue | None = None
    tag: Text | None = None


class Webhook(ResponseModel):
    """A webhook. Its messages are signed with `secret`, which only the answer to its creation has."""

    id: str = Field(examples=["5f0c2a9be1d34c77"])
    url: str = Field(examples=["https://example.org/hooks/ganger"])
    on: list[End]
    task_type: str | None = None
    queue: str | None = None
    tag: str | None = None
    created_at: datetime
    secret: str | None = None


class WebhookSecret(ResponseModel):
    """A secret, in the form of Standard Webhooks."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class Delivery(ResponseModel):
    """A message that has not been delivered yet."""

    id: str
    webhook: str | None = Field(default=None, description="The webhook, or null for one of the task's own.")
    url: str
    task_id: str
    status: End
    tries: int
    due_at: datetime
    last_error: str | None = None
