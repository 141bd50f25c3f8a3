"""The one place where what Redis and redis-py say becomes an error of Ganger.

    OOM                                            BrokerFull
    READONLY, MISCONF, NOREPLICAS                  BrokerReadOnly
    NOAUTH, WRONGPASS, NOPERM                      BrokerDenied
    connection, timeout, LOADING, BUSY, MASTERDOWN BrokerUnavailable
    anything else                                  BrokerError

Words that scripts answer with are no errors; the verbs in this package
know what they mean.
"""

import re

from redis import exceptions

from engine.errors import BrokerDenied, BrokerError, BrokerFull, BrokerReadOnly, BrokerUnavailable

_BY_CODE: dict[str, type[BrokerError]] = {
    "OOM": BrokerFull,
    "READONLY": BrokerReadOnly,
    "MISCONF": BrokerReadOnly,
    "NOREPLICAS": BrokerReadOnly,
    "NOAUTH": BrokerDenied,
    "WRONGPASS": BrokerDenied,
    "NOPERM": BrokerDenied,
    "LOADING": BrokerUnavailable,
    "BUSY": BrokerUnavailable,
    "MASTERDOWN": BrokerUnavailable,
    "CLUSTERDOWN": BrokerUnavailable,
    "TRYAGAIN": BrokerUnavailable,
}
# redis-py cuts the code off the text of the errors that it has a class for.
_BY_CLASS: tuple[tuple[type[Exception], type[BrokerError]], ...] = (
    (exceptions.OutOfMemoryError, BrokerFull),
    (exceptions.ReadOnlyError, BrokerReadOnly),
    (exceptions.NoPermissionError, BrokerDenied),
    (exceptions.AuthenticationError, BrokerDenied),
    (exceptions.AuthenticationWrongNumberOfArgsError, BrokerDenied),
    (exceptions.BusyLoadingError, BrokerUnavailable),
    (exceptions.ConnectionError, BrokerUnavailable),
    (exceptions.TimeoutError, BrokerUnavailable),
    (OSError, BrokerUnavailable),
)
# Where in a script it happened: of use only for an error that nobody expects. The first is how Redis 6.2 says it.
_PLACE = re.compile(r"^Error running script \(call to \w+\): @user_script:\d+: (@user_script: ?\d+: )?-?"
                    r"|\.? script: (\w+, )?on @user_script:\d+\.?$")
_HINTS: dict[type[BrokerError], str] = {
    BrokerFull: "Redis is at its maxmemory and refuses writes",
    BrokerReadOnly: "Redis refuses writes",
    BrokerDenied: "Redis refuses the password, the user or the command",
    BrokerUnavailable: "Redis cannot be reached, or did not answer in time",
    BrokerError: "Redis could not do what was asked",
}


def from_redis(error: Exception) -> BrokerError:
    """The error of Ganger for one of redis-py, hiredis or the socket. Never raises."""
    if isinstance(error, exceptions.MovedError | exceptions.AskError):
        return BrokerUnavailable(f"this Redis is a node of a Cluster, and the keys are on another one: name it as "
                                 f"redis+cluster://HOST:PORT ({error})")
    kind = _kind(error)
    text = str(error) if kind is BrokerError else _PLACE.sub("", str(error))
    return kind(f"{_HINTS[kind]}: {text or type(error).__name__}")


def _kind(error: Exception) -> type[BrokerError]:
    # An error inside a script: "OOM command not allowed … script: 1f0e, on @user_script:12." on Redis 7,
    # "Error running script (call to f_1f0e): @user_script:12: @user_script: 12: -OOM command …" on 6.2.
    text = str(error)
    code = text.split(" ", 1)[0].lstrip("-")
    if code in _BY_CODE:
        return _BY_CODE[code]
    for cls, kind in _BY_CLASS:
        if isinstance(error, cls):
            return kind
    inner = text.rpartition(": -")[2].split(" ", 1)[0]
    return _BY_CODE.get(inner, BrokerError)
