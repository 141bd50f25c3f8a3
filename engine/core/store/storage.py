"""Whether what a Redis says of itself lets it keep tasks: its eviction policy, and whether it can write to its disk."""

from typing import Any

DELETES_TASKS = "allkeys-"  # begins the policies that may delete any key; those named volatile-… spare ours


def eviction_fault(info: dict[str, Any]) -> str | None:
    """Why this Redis may delete tasks, with the remedy; None if it does not, or if this user may not know.

    `info` is what `Broker.info` returns. Without a maxmemory nothing is deleted, whatever the policy.
    """
    policy = info["policy"] or ""
    if not policy.startswith(DELETES_TASKS) or not info["maxmemory_bytes"]:
        return None
    return (f"Redis deletes tasks when its memory is full: maxmemory-policy is {policy}, and must be noeviction "
            "(redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf), "
            "unless allow_eviction is set")


def writing_fault(info: dict[str, Any]) -> str | None:
    """What is wrong with the writing of its append-only file, if anything."""
    if not info["aof_enabled"] or info["aof_ok"]:
        return None
    return ("Redis cannot write its append-only file and refuses all changes, as it does where its disk is full; "
            "if it is killed now, what it has answered since its last good write is lost")


def is_of_wrong_type(error: Exception) -> bool:
    """Whether Redis met a key of a wrong type: it said so, or the error names the key for which it said so."""
    return any("WRONGTYPE" in str(told) for told in (error, error.__cause__))
