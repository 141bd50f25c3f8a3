"""The name of everything that Ganger keeps in Redis: one attribute or method per key.

Law: no other file writes a key by hand. All keys of a shard carry the same
hash tag, so that a Redis Cluster keeps them on one node and a script may
touch several. ARCHITECTURE.md says what each of them holds.
"""

from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task.priority import TaskPriority

LANES_KEPT = 1000  # whose names are not written anew for each submit


class Keys:
    """The keys of one shard below one prefix; plain strings, made once and shared."""

    def __init__(self, prefix: str = "ganger", shard: int = 0) -> None:
        base = f"{prefix}:{{{shard}}}:"
        self.base = base  # what the scripts make the names of channels from
        # tasks
        self.tasks = base + "tasks"  # hash id -> record
        self.states = base + "states"  # hash id -> state; absent: QUEUED at submit and never claimed
        self.outcomes = base + "outcomes"  # hash "id:run" -> outcome JSON
        self.progress = base + "progress"  # hash id -> JSON, while it runs
        self.rescues = base + "rescues"  # hash id -> how many of its runs were lost with their supervisor
        self.schema = base + "schema"  # string "version oldest": the format of all this, see core/store/schema.py
        # order
        self.queues = base + "queues"  # hash queue -> "open" or "paused"
        self.unused = base + "unused"  # hash queue -> "since_ms places": it has been empty, and nobody claimed from it
        self.types_aside = base + "types_aside"  # set of the types of which tasks wait aside
        self.due = base + "due"  # zset id -> due_ms of PENDING and RETRYING tasks
        self.expiring = base + "expiring"  # zset id -> expires_ms of tasks not started yet
        self.cancel_requests = base + "cancel_requests"  # hash id -> "run reason": that run was to be cancelled
        # who works
        self.supervisors = base + "supervisors"  # zset supervisor -> lease end, ms
        self.reports = base + "reports"  # hash supervisor -> JSON
        self.syncs = base + "syncs"  # hash supervisor -> number of the sync_held_runs that took effect last
        # hash supervisor -> "serves idle_workers said_ms", or "!serves": see lua/include/wakeup.lua
        self.idle_supervisors = base + "idle_supervisors"
        self.handlers = base + "handlers"  # hash handler -> JSON announcement
        self.announced = base + "announced"  # zset handler -> when a pool announced it last, ms
        self.keeper = base + "keeper"  # string "keeper until_ms"
        # who listens
        self.waiters = base + "waiters"  # hash id -> ",client,client"
        self.events = base + "events"  # stream, field "e" -> rows "id STATUS run"
        self.counters = base + "counters"  # hash
        # the API
        self.api_keys = base + "api:keys"  # hash key id -> JSON: name, role, queues, hash of the secret
        self.api_keyed = base + "api:keyed"  # string "keyed" once a key was made, "opened" after `ganger keys open`
        self.journal = base + "api:journal"  # stream, field "e" -> JSON: the engine's own log
        self.webhooks = base + "api:webhooks"  # hash webhook id -> JSON
        self.deliveries = base + "api:deliveries"  # hash delivery id -> JSON: messages that are under way
        self.deliveries_due = base + "api:deliveries:due"  # zset delivery id -> ms of its next try
        self.delivered_to = base + "api:deliveries:position"  # string: id of the last event that became deliveries
        self.deliverer = base + "api:deliverer"  # string "deliverer until_ms"
        # what every submit names
        self.of_submit = tuple(LAYOUTS["submit"].keys(self))
        self._of_lanes: dict[tuple[str, int], tuple[str, str]] = {}

    def named(self, name: str, supervisor: str = "") -> str:
        """The key that the scripts call by this name: an attribute, `ended_<status>`, or a key of a supervisor."""
        if name.startswith("ended_"):
            return self.ended(name.removeprefix("ended_").upper())
        key = getattr(self, name)
        return str(key(supervisor) if callable(key) else key)

    def of_lane(self, queue: str, priority: TaskPriority) -> tuple[str, str]:
        """Its `lane` and `cursors`."""
        names = self._of_lanes.get((queue, priority))
        if names is None:
            names = self.lane(queue, priority), self.cursors(queue, priority)
            if len(self._of_lanes) < LANES_KEPT:
                self._of_lanes[queue, priority] = names
        return names

    def lane(self, queue: str, priority: TaskPriority, task_type: str | None = None) -> str:
        """zset id -> place: the queued tasks of one queue and priority; with a type, those of it that wait aside."""
        return f"{self.base}lane:{queue}:{priority.name}" + ("" if task_type is None else f":{task_type}")

    def round_robin(self, priority: TaskPriority, task_type: str | None = None) -> str:
        """zset queue -> when its line was served last, µs: the lines that may have tasks. See include/lanes.lua."""
        return f"{self.base}round_robin:{priority.name}" + ("" if task_type is None else f":{task_type}")

    def types(self, supervisor: str) -> str:
        """set of the types that a supervisor can run."""
        return f"{self.base}types:{supervisor}"

    def cursors(self, queue: str, priority: TaskPriority) -> str:
        """hash "v" -> place claimed last, "k:<fair key>" -> place given last to that key."""
        return f"{self.base}cursors:{queue}:{priority.name}"

    def ended(self, status: str) -> str:
        """zset id -> moment of its removal, ms."""
        return f"{self.base}ended:{status}"

    def idempotency(self, queue: str, key: str) -> str:
        """string -> task id, for as long as the key is remembered. Each queue has its own keys."""
        return f"{self.base}idempotency:{queue}:{key}"

    def running(self, supervisor: str) -> str:
        """set of the ids that run under that supervisor's lease."""
        return f"{self.base}running:{supervisor}"

    def commands(self, supervisor: str) -> str:
        """list of JSON: the commands to a supervisor."""
        return f"{self.base}commands:{supervisor}"

    def log(self, task_id: str) -> str:
        """list of JSON rows: what the runs of a task printed and logged."""
        return f"{self.base}log:{task_id}"

    def processes(self, host: str, root_pid: int) -> str:
        """hash pid -> JSON sample, of one engine."""
        return f"{self.base}processes:{host}:{root_pid}"

    def history(self, host: str, root_pid: int) -> str:
        """list of JSON, the newest first: what the processes of one engine used in the last hour."""
        return f"{self.base}history:{host}:{root_pid}"

    def wakeup(self, supervisor: str) -> str:
        """Channel that wakes a supervisor: "!" there are commands, else the queue that has work."""
        return f"{self.base}wakeup:{supervisor}"

    @property
    def keeper_wakeup(self) -> str:
        """Channel that tells the keeper of an earlier due time than it may know."""
        return self.base + "wakeup:keeper"

    def done(self, client: str) -> str:
        """Channel on which a client hears the ids, joined by ",", of tasks that ended."""
        return f"{self.base}done:{client}"
