"""Which URLs name a Redis: checked when settings are loaded, and read by the code that connects."""

from urllib.parse import urlsplit

PLAIN = ("redis", "rediss", "unix")
FOLLOWING = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
REDIS_PORT, SENTINEL_PORT = 6379, 26379
LIMIT = "a URL that starts with redis://, rediss:// or unix://; or with redis+sentinel:// or redis+cluster://"


def check(url: str) -> None:
    """Raise `ValueError` for what does not name a Redis."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("a socket needs a path")
    elif parts.scheme in FOLLOWING:
        hosts_of(url)
        if parts.scheme.endswith("sentinel") and not parts.path.strip("/").partition("/")[0]:
            raise ValueError("the name of the master is missing: redis+sentinel://host:26379/NAME")
    elif parts.scheme not in PLAIN or not parts.hostname:
        raise ValueError("not the URL of a Redis")
    elif parts.port == 0:
        raise ValueError("no port has the number 0")


def hosts_of(url: str) -> list[tuple[str, int]]:
    """The hosts between scheme and path, with commas between them. Raises `ValueError`."""
    parts = urlsplit(url)
    default = SENTINEL_PORT if parts.scheme.endswith("sentinel") else REDIS_PORT
    hosts = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text}")
        if not one.hostname:
            raise ValueError(f"{text!r} is not the name of a host")
        hosts.append((one.hostname, one.port or default))
    return hosts
