"""The engine as a whole: its state, its metrics, its workers, and how it is controlled."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from engine.services.api.models.base import WHOLE, Queue, RequestModel, ResponseModel

Action = Literal["start", "stop", "restart", "pause", "resume", "drain", "scale"]


class SchedulerControl(RequestModel):
    """What the engine is to do.

    start, stop, drain: its pools; drain lets runs finish, stop gives them back. restart: pools with the settings and
    code of now, without losing a task. pause, resume: all queues. scale: a pool to so many workers,
    which hurts no run.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "scale", "workers": 4}]})

    action: Action
    workers: Annotated[int, Field(ge=1, le=1024), WHOLE] | Literal["auto"] | None = Field(
        default=None, description="Of a scale; auto: as many as the load asks for.")
    pool: Queue = Field(default="default", description="Of a scale.")


class SchedulerControlled(ResponseModel):
    """How many heard the command."""

    action: Action
    engines: int = Field(description="Engines that heard it.")
    queues: int = Field(description="Queues that were paused or resumed.")


class SchedulerStatus(ResponseModel):
    """What runs where, and what waits."""

    version: str = Field(examples=["0.1.0"])
    uptime_s: float = Field(description="Of the pool that has been up the longest.")
    is_paused: bool = Field(description="Every queue is.")
    pools: list[dict[str, Any]] = Field(description="The supervisors' reports, with their slots and what was measured.")
    tree: list[dict[str, Any]] = Field(description="Every process, with its parent, CPU and memory.")
    workers: int
    busy: int
    tasks: dict[str, int] = Field(description="By status.", examples=[{"QUEUED": 21, "RUNNING": 2}])
    counters: dict[str, int] = Field(description="What has happened since the beginning.")
    api: dict[str, Any]


class SchedulerHealth(ResponseModel):
    """live: this process answers. ready: tasks that are submitted now are run."""

    live: bool = True
    ready: bool
    reasons: list[str] = Field(description="Why it is not ready.", examples=[["Redis is away"]])
    degraded: list[str] = Field(default=[], description="What works only in part, though tasks run.",
                                examples=[["webhook sender: ValueError: ..."]])


class Percentiles(ResponseModel):
    """Seconds."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Figures(ResponseModel):
    """What ended within a window of time, of one queue, one type or all of them."""

    ended: int
    per_s: float
    by_status: dict[str, int] = Field(examples=[{"COMPLETED": 990, "FAILED": 10}])
    by_cause: dict[str, int] = Field(examples=[{"returned": 990, "raised": 8, "timeout": 2}])
    success_rate: float | None = Field(description="COMPLETED among those that ended, cancelled ones left out.")
    wait_s: Percentiles
    run_s: Percentiles
    cpu_s: float = Field(description="CPU seconds of their last runs.")
    peak_rss_bytes: int | None = None


class SchedulerMetrics(ResponseModel):
    """Throughput, success, times and resources within a window."""

    window_s: int
    since: datetime = Field(description="What happened before is not known here.")
    total: Figures
    by_queue: dict[str, Figures]
    by_type: dict[str, Figures]
    retries: int
    timeouts: int
    sampled: float = Field(description="Share of the ends that were looked at; by_queue, by_type, by_cause and the "
                           "times are of these. Less than 1 above 1,000 ends a second.")
    gaps: int = Field(description="How often since `since` events were gone from Redis before they could be counted.")
    cpu_percent: float = Field(description="Of all processes of the engine now, of one core.")
    rss_bytes: int


class Worker(ResponseModel):
    """A worker in its slot; `id` is "supervisor/slot", as tasks name it."""

    id: str = Field(examples=["host.default.3f9a1c/0"])
    supervisor: str
    slot: int
    pool: str | None = None
    host: str | None = None
    pid: int | None = None
    state: str | None = Field(default=None, examples=["busy"])
    served: int | None = None
    restarts: int | None = Field(default=None, description="Of its slot: how many workers there were before it.")
    last_death: dict[str, Any] | None = Field(
        default=None, description="Why the worker before it ended, and when.",
        examples=[{"cause": "timeout", "at_ms": 1764270000000, "task": "01M8F8Y5HY867HG395G"}])
    frozen: bool | None = Field(default=None, description="Its run is suspended for an urgent one.")
    has_place: bool | None = Field(default=None, description="False: it is a spare, is suspended, or is about to end.")
    task: dict[str, Any] | None = None
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = Field(default=None, description="Its own memory, and its part of what it shares.")
    threads: int | None = None
    open_files: int | None = None
    read_bytes_per_s: float | None = Field(default=None, description="From disks.")
    write_bytes_per_s: float | None = Field(default=None, description="To disks.")
    context_switches_per_s: float | None = None


class Sample(ResponseModel):
    """What a slot has used in ten seconds: peaks of what is held, means of the rest."""

    at: datetime
    cpu_percent: float | None
    rss_bytes: int | None
    pss_bytes: int | None
    threads: int | None
    open_files: int | None
    read_bytes_per_s: float | None
    write_bytes_per_s: float | None
    context_switches_per_s: float | None


class WorkerDetail(Worker):
    """A worker, with the last hour of its slot."""

    history: list[Sample]


class WorkerOrder(RequestModel):
    """How to restart."""

    at_once: bool = Field(default=False, description="Do not wait for its task, which is given back and run elsewhere.")


class WorkerTold(ResponseModel):
    """The order is on its way."""

    id: str
    order: str


class WorkerStack(ResponseModel):
    """Where every thread of a worker is."""

    id: str
    stacks: str
