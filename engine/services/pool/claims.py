"""Makes runs of what Redis gave out: reads each record's first line and finds the policy that holds for it."""

from collections.abc import Iterable
from typing import Any

import orjson

from engine.core import frames
from engine.core.policy import RunPolicy
from engine.core.slot import Run

_FRESH = b"1 0 0"
_LARGE = frames.PIECE_BYTES_MAX - frames.TASK_HEAD.size


class Claims:
    def __init__(self, default: RunPolicy) -> None:
        self.default = default
        self.policies: dict[str, RunPolicy] = {}
        self._token = 0

    def learn(self, handlers: Iterable[dict[str, Any]]) -> None:
        """Take the handlers' own wishes over."""
        self.policies = {one["name"]: self.default.with_handler(one) for one in handlers}

    def make(self, task_id: bytes, record: bytes, counters: bytes) -> Run:
        """`counters` is b"run attempts crashes". Raises `ValueError` for a record that cannot be read."""
        number, attempts, crashes = (1, 0, 0) if counters == _FRESH else map(int, counters.split())
        self._token = token = (self._token + 1) & frames.TOKEN_MAX
        try:
            head = orjson.loads(record[: record.index(b"\n")])
            task_type = head[0]
            policy = self.policies.get(task_type) or self.default
            if len(head) == 5:
                policy = policy.with_options(head[4])
            return Run(task_id, number, attempts, crashes, task_type, head[1], policy, record, token,
                       len(record) > _LARGE)
        except (TypeError, IndexError, KeyError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
