"""The keys of the API: who may call it, by name, role and queues. What a caller has to present is stored as a hash.

Law: once a key was made, a mark beside the keys says so, and outlives the last of them. Only `open` takes it back.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task import stored_json
from engine.ports.api_keys import KEYED, OPENED, ApiKeyTable


class RedisApiKeyStore:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def table(self) -> ApiKeyTable:
        flat, mark = self._redis.call_all([("HGETALL", self._keys.api_keys), ("GET", self._keys.api_keyed)])
        keys = {name.decode(errors="replace"): stored_json.api_key(told)
                for name, told in zip(flat[::2], flat[1::2], strict=True)}
        return ApiKeyTable(keys, mark)

    def all(self) -> dict[str, dict[str, Any]]:
        """Every key by its id; one that cannot be read has nothing in it."""
        return self.table().keys

    def add(self, key_id: str, told: Mapping[str, Any]) -> None:
        self._redis.call_all([("SET", self._keys.api_keyed, KEYED),
                              ("HSET", self._keys.api_keys, key_id, orjson.dumps(told))])

    def remove(self, key_id: str) -> bool:
        """False if there is no such key."""
        done = self._redis.call_all([("SET", self._keys.api_keyed, KEYED), ("HDEL", self._keys.api_keys, key_id)])
        return bool(done[1])

    def mark(self) -> None:
        """Note that there are keys, where they were made by a version that did not."""
        self._redis.call("SET", self._keys.api_keyed, KEYED)

    def open(self) -> bool:
        """Let calls need no key again; False, and nothing is changed, if there are keys."""
        if self.all():
            return False
        self._redis.call("SET", self._keys.api_keyed, OPENED)  # a key that is made meanwhile counts all the same
        return True
