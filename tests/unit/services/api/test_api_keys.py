"""Who may call the API, by the table of keys as it was read last and the time since."""

from typing import Any

import pytest

from engine.errors import BrokerUnavailable
from engine.ports.api_keys import KEYED, OPENED, ApiKeyTable, hashed
from engine.services.api.http.authentication import ANYBODY, STALE_S, Authenticator, is_forwarded
from engine.services.api.http.problems import HttpError

KEY = b"Bearer gk_id_secret"
ROW: dict[str, Any] = {"name": "me", "role": "read", "hash": hashed("secret"), "queues": None}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(**more: Any) -> tuple[Authenticator, Clock]:
    clock = Clock()
    return Authenticator(**{"is_open": True, "is_local": True, **more}, clock=clock), clock


def refused(access: Authenticator, authorization: bytes | None) -> int:
    with pytest.raises(HttpError) as error:
        access.identify(authorization)
    return error.value.status


def test_nobody_is_let_in_before_the_keys_were_read() -> None:
    with pytest.raises(BrokerUnavailable):
        make()[0].identify(None)


@pytest.mark.parametrize("after", [
    ApiKeyTable({}, KEYED), ApiKeyTable({}, None), ApiKeyTable({"broken": {}}, None),
    ApiKeyTable({"broken": {}}, OPENED)])
def test_a_table_without_usable_keys_never_opens_what_was_closed(after: ApiKeyTable) -> None:
    access, _ = make()
    access.learn(ApiKeyTable({"id": ROW}, None))
    assert access.identify(KEY).name == "me (id)"
    access.learn(after)
    assert access.wants_keys
    assert (refused(access, None), refused(access, KEY)) == (401, 401)


@pytest.mark.parametrize("is_open", [False, True])
def test_the_mark_of_an_earlier_key_is_enough_to_need_one(is_open: bool) -> None:
    access, _ = make(is_open=is_open)
    access.learn(ApiKeyTable({}, KEYED))
    assert refused(access, None) == 401


def test_only_an_explicit_decision_opens_it_again() -> None:
    access, _ = make()
    access.learn(ApiKeyTable({"id": ROW}, KEYED))
    access.learn(ApiKeyTable({}, OPENED))
    assert access.identify(None) is ANYBODY
    assert refused(access, KEY) == 401, "a wrong token is refused, also where none is needed"
    access.learn(ApiKeyTable({"id": ROW}, OPENED))
    assert refused(access, None) == 401


def test_keys_that_could_not_be_read_for_long_let_nobody_in() -> None:
    """A key that was revoked meanwhile must not live on because whoever reads the keys has failed."""
    access, clock = make()
    access.learn(ApiKeyTable({"id": ROW}, KEYED))
    clock.now_s = STALE_S
    assert access.identify(KEY).name == "me (id)"
    clock.now_s += 0.1
    with pytest.raises(BrokerUnavailable):
        access.identify(KEY)
    assert access.identify(KEY, may_be_stale=True).name == "me (id)"
    access.learn(ApiKeyTable({}, KEYED))
    assert refused(access, KEY) == 401


def test_what_shows_a_proxy() -> None:
    assert not is_forwarded([b"host", b"x-forward", b"authorization"])
    assert all(is_forwarded([b"host", name]) for name in (b"forwarded", b"x-forwarded-host", b"via", b"x-real-ip"))
