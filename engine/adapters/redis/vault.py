"""The keys of the API: who may call it, by name, role and queues. What a caller has to present is stored as a hash."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from engine.adapters.redis.connection import Connections
from engine.adapters.redis.keys import Keys
from engine.core import stored


class Vault:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def all(self) -> dict[str, dict[str, Any]]:
        """Every key by its id; one that cannot be read has nothing in it."""
        flat = self._redis.call("HGETALL", self._keys.api_keys)
        return {name.decode(errors="replace"): stored.api_key(told)
                for name, told in zip(flat[::2], flat[1::2], strict=True)}

    def add(self, key_id: str, told: Mapping[str, Any]) -> None:
        self._redis.call("HSET", self._keys.api_keys, key_id, orjson.dumps(told))

    def remove(self, key_id: str) -> bool:
        """False if there is no such key."""
        return bool(self._redis.call("HDEL", self._keys.api_keys, key_id))


def hashed(secret: str) -> str:
    """What is stored of a key. Its secret is 256 bits of chance, so that no salt or slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
