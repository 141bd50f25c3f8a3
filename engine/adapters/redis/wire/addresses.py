"""Where the Redis is that takes our writes: named by the URL, told by Sentinels, or the Cluster node with our keys.

    redis://  rediss://  unix://                            that very one
    redis+sentinel://user:password@host:port,host:port/NAME/DB   the master that the Sentinels call NAME
    redis+cluster://user:password@host:port,host:port       the master of our slot: all keys of an engine are in one
    rediss+sentinel://  rediss+cluster://                   the same over TLS

It is asked anew for each connection, so that whoever connects again after a failover finds the new master.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import connection as redis_py
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from engine.config.urls import hosts_of

SLOT = int(cast(Any, key_slot)(b"{0}"))  # keys.py gives all keys of a shard this hash tag
_POOL_ONLY = ("max_connections", "timeout", "retry_on_timeout", "retry_on_error", "legacy_responses")

Settings = dict[str, Any]


@dataclass(slots=True)
class Address:
    """What redis-py's connections are made from; `found` completes it with the host to connect to."""

    made_by: type[Any]
    settings: Settings
    follows: bool = False  # the master is looked for, and may become another
    _find: Callable[["Address"], Settings] | None = None
    hosts: list[tuple[str, int]] = field(default_factory=list)  # to ask, the one that knew best first
    asking: Settings = field(default_factory=dict)  # what differs for those who are asked

    def found(self) -> Settings:
        """Raises redis-py's errors where nobody knows the master."""
        return self.settings if self._find is None else {**self.settings, **self._find(self)}

    def answers(self, *command: str) -> Iterator[tuple[tuple[str, int], Any]]:
        """What each host says to a command, in turn; raises when there is none left."""
        reasons = []
        for host, port in list(self.hosts):
            connection = self.made_by(**{**self.settings, **self.asking, "host": host, "port": port})
            try:
                connection.connect()
                connection.send_command(*command)
                reply = connection.read_response()
            except (RedisError, OSError) as error:
                reasons.append(f"{host}:{port}: {error}")
                continue
            finally:
                connection.disconnect()
            yield (host, port), reply
            reasons.append(f"{host}:{port} does not know")
        raise RedisConnectionError("nobody knows where the master is: " + "; ".join(reasons))

    def prefer(self, host: tuple[str, int]) -> None:
        """Ask this one first from now on."""
        self.hosts = [host, *(other for other in self.hosts if other != host)]


def address(url: str, timeout_s: float) -> Address:
    """Raises `ValueError` or `TypeError` for a URL that makes no sense."""
    parts = urlsplit(url)
    plain, plus, kind = parts.scheme.partition("+")
    if not plus:
        return Address(*_settings(url, timeout_s))
    hosts = hosts_of(url)
    user, at, _ = parts.netloc.rpartition("@")
    netloc = f"{user}{at}localhost"  # whom to connect to is found out later
    if kind == "cluster":
        made_by, settings = _settings(urlunsplit((plain, netloc, "", parts.query, "")), timeout_s)
        return Address(made_by, settings, True, _owner, hosts)
    name, _, database = parts.path.strip("/").partition("/")
    query = dict(parse_qsl(parts.query))
    asking: Settings = {"username": query.pop("sentinel_username", None),
                        "password": query.pop("sentinel_password", None), "db": 0}
    plain_url = urlunsplit((plain, netloc, f"/{database or 0}", urlencode(query), ""))
    made_by, settings = _settings(plain_url, timeout_s)

    def find(known: Address) -> Settings:
        return _master(known, name)

    return Address(made_by, settings, True, find, hosts, asking)


def check_role(connection: Any) -> None:
    """Raise unless it is a master: Sentinels may not have heard yet."""
    connection.send_command("ROLE")
    role = connection.read_response()[0]
    if role != b"master":
        raise RedisConnectionError(f"the Redis at {connection.host}:{connection.port} is a {role.decode()}, "
                                   "and not the master any more or not yet")


def _master(known: Address, name: str) -> Settings:
    for asked, reply in known.answers("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name):
        if reply:
            known.prefer(asked)
            return {"host": reply[0].decode(), "port": int(reply[1])}
    raise AssertionError("answers() ends with an error")


def _owner(known: Address) -> Settings:
    """The node that has our slot; the other masters are remembered as ones to ask."""
    for asked, slots in known.answers("CLUSTER", "SLOTS"):
        masters = {int(first): (_name(node, asked), int(node[1])) for first, _, node, *_ in slots}
        owner = next((masters[int(first)] for first, last, *_ in slots if int(first) <= SLOT <= int(last)), None)
        if owner is not None:
            known.hosts += [host for host in masters.values() if host not in known.hosts]
            known.prefer(asked)
            return {"host": owner[0], "port": owner[1]}
    raise AssertionError("answers() ends with an error")


def _name(node: list[Any], asked: tuple[str, int]) -> str:
    """A node that does not know its own address is known by the one that it was reached at."""
    return node[0].decode() if node[0] else asked[0]


def _settings(url: str, timeout_s: float) -> tuple[type[Any], Settings]:
    settings: Settings = cast(Any, redis_py.parse_url)(url)
    for name in _POOL_ONLY:
        settings.pop(name, None)
    made_by = settings.pop("connection_class", redis_py.Connection)
    # RESP2: no HELLO, no push messages to tell from replies, and the quicker parser.
    settings |= {"protocol": 2, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    made_by(**settings)
    return made_by, settings
