"""The settings of one pool. A value that is not given is the engine's."""

from typing import Literal

from pydantic import BaseModel, field_validator
from pydantic_core import PydanticCustomError

from engine.config.fields import STRICT, WORKERS_MAX, Count, ServedQueue, setting
from engine.core.task.names import QUEUE_NAME_LIMIT


class PoolSettings(BaseModel):
    """One pool: a supervisor with its own slots, serving its own queues."""

    model_config = STRICT

    queues: tuple[ServedQueue, ...] = setting(
        ("*",), 'Queues that this pool serves; "*" is every queue.',
        limit=f'a list of queue names ("*", or {QUEUE_NAME_LIMIT})')
    max_workers: Count | None = setting(
        None, "Worker processes of this pool; without it, the engine's max_workers.", low=1, high=WORKERS_MAX,
        unit="processes")

    scale: Literal["fixed", "auto"] | None = setting(
        None, "Whether the number of workers follows the load; without it, as the engine's scale.",
        limit="fixed or auto")

    start_method: Literal["fork", "spawn"] | None = setting(
        None, "How its workers come to be; without it, as the engine's start_method.", limit="fork or spawn")
    preload: bool | None = setting(
        None, "Whether its handlers are imported once, before the workers fork; without it, as the engine's preload.",
        limit="true or false")

    cpu_affinity: bool | None = setting(
        None, "Whether each of its workers is held to its own cores; without it, as the engine's cpu_affinity.",
        limit="true or false")

    @field_validator("queues")
    @classmethod
    def _at_least_one(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if not queues:
            raise PydanticCustomError("empty", "a pool must serve a queue")
        return queues
