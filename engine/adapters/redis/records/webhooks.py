"""Webhooks in Redis: which there are, and the messages that are under way.

Law: the place in the stream moves on in the same script that makes messages
of what was read, and only for the one that leads, so that an end is told of
even if its reader dies. A message may be sent twice; its id is the same then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from engine.adapters.redis.records.leader_lock import RedisLeaderLock
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task import stored_json
from engine.ports.webhooks import OWN, new_secret


class RedisWebhookStore:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def all(self) -> dict[str, dict[str, Any]]:
        """Every webhook by its id, and `OWN` where a task with a webhook of its own was ever submitted.

        What cannot be read is none.
        """
        flat: Sequence[bytes] = self._redis.call("HGETALL", self._keys.webhooks)
        read = {name.decode(errors="replace"): _webhook(name, told)
                for name, told in zip(flat[::2], flat[1::2], strict=True)}
        return {name: told for name, told in read.items() if told is not None}

    def own_secret(self, *, renewed: bool = False) -> str:
        """What messages to tasks' own webhooks are signed with; makes it, or another one."""
        made = orjson.dumps({"secret": new_secret()})
        verb = "HSET" if renewed else "HSETNX"
        found = self._redis.call_all([(verb, self._keys.webhooks, OWN, made), ("HGET", self._keys.webhooks, OWN)])[1]
        told = _webhook(OWN.encode(), found)
        return self.own_secret(renewed=True) if told is None else str(told["secret"])

    def add(self, hook_id: str, told: Mapping[str, Any]) -> None:
        self._redis.call("HSET", self._keys.webhooks, hook_id, orjson.dumps(told))

    def remove(self, hook_id: str) -> bool:
        """False if there is no such webhook."""
        return bool(self._redis.call("HDEL", self._keys.webhooks, hook_id))

    def lock(self, name: str) -> RedisLeaderLock:
        """What those contend for that could deliver."""
        return RedisLeaderLock(self._redis, self._keys.deliverer, name)

    def position(self) -> str | None:
        """The id of the last entry of the stream of which messages were made."""
        told = self._redis.call("GET", self._keys.delivered_to)
        return told.decode() if told else None

    def advance(self, leader: str, position: str, messages: Mapping[str, Mapping[str, Any]], due_ms: int) -> bool:
        """Take messages on, and move on in the stream: both or neither. False: that one does not lead any more."""
        keys = self._keys
        layout = LAYOUTS["add_deliveries"]
        told = [part for message_id, message in messages.items() for part in (message_id, orjson.dumps(message))]
        args = layout.args(name=leader, position=position, due_ms=due_ms)
        return bool(self._redis.run("add_deliveries", layout.keys(keys), [*args, *told]) == b"OK")

    def due(self, now_ms: int, limit: int) -> dict[str, dict[str, Any]]:
        """Messages whose time has come. What cannot be read is thrown away."""
        ids: list[bytes] = self._redis.call("ZRANGEBYSCORE", self._keys.deliveries_due, "-inf", now_ms, "LIMIT", 0,
                                            limit)
        if not ids:
            return {}
        told = self._redis.call("HMGET", self._keys.deliveries, *ids)
        read = {name: None if one is None else stored_json.message(one) for name, one in zip(ids, told, strict=True)}
        gone = [name for name, one in read.items() if one is None or not name.isascii()]
        if gone:
            self._redis.call_all([("ZREM", self._keys.deliveries_due, *gone), ("HDEL", self._keys.deliveries, *gone)])
        return {name.decode(): one for name, one in read.items() if one is not None and name.isascii()}

    def under_way(self, limit: int) -> dict[str, dict[str, Any]]:
        """Messages that have not arrived yet, the next ones first, with `due_ms`."""
        flat: list[bytes] = self._redis.call("ZRANGE", self._keys.deliveries_due, 0, limit - 1, "WITHSCORES")
        if not flat:
            return {}
        told = self._redis.call("HMGET", self._keys.deliveries, *flat[::2])
        return {name.decode(): {**message, "due_ms": float(at)}
                for name, at, one in zip(flat[::2], flat[1::2], told, strict=True)
                if one is not None and name.isascii() and (message := stored_json.message(one)) is not None}

    def count_under_way(self) -> int:
        return int(self._redis.call("HLEN", self._keys.deliveries))

    def done(self, message_id: str) -> None:
        """It has arrived, or nobody tries any more."""
        self._redis.call_all([("HDEL", self._keys.deliveries, message_id),
                              ("ZREM", self._keys.deliveries_due, message_id)])

    def again(self, message_id: str, told: Mapping[str, Any], due_ms: int) -> None:
        """Try once more, later."""
        self._redis.call_all([("HSET", self._keys.deliveries, message_id, orjson.dumps(told)),
                              ("ZADD", self._keys.deliveries_due, due_ms, message_id)])


def _webhook(name: bytes, told: bytes) -> dict[str, Any] | None:
    fields = ("secret",) if name == OWN.encode() else ("secret", "on", "url")
    return stored_json.webhook(told, *fields)
