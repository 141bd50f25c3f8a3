"""Webhooks, messages and keys of the API in Redis, when somebody else has written there too."""

import orjson

from engine.adapters.redis.records.api_keys import RedisApiKeyStore
from engine.adapters.redis.records.webhooks import RedisWebhookStore
from engine.ports.webhooks import OWN, new_secret
from tests.scripts.broker_rig import BrokerRig

HOOK = {"secret": new_secret(), "url": "http://x", "on": ["FAILED"]}
MESSAGE = {"task_id": "t", "status": "FAILED", "tries": 0, "body": {}, "url": "http://x", "webhook": None}
BROKEN = [b"", b"7", b"[]", b"{}", b"\xff", b'{"secret":7}', b'{"tries":-1}',
          b'{"tries":0,"task_id":"t"}', orjson.dumps({"secret": new_secret(), "url": "http://x"})]


def test_a_webhook_that_cannot_be_read_is_none(rig: BrokerRig) -> None:
    hooks = RedisWebhookStore(rig.broker.redis, rig.keys)
    rig.client.hset(rig.keys.webhooks, mapping={b"broken %d" % n: text for n, text in enumerate(BROKEN)})
    rig.client.hset(rig.keys.webhooks, OWN, b"nonsense")
    hooks.add("whole", HOOK)
    assert hooks.all() == {"whole": HOOK}
    secret = hooks.own_secret()
    assert hooks.own_secret() == secret
    assert set(hooks.all()) == {"whole", OWN}


def test_a_message_that_cannot_be_read_is_thrown_away(rig: BrokerRig) -> None:
    hooks, keys = RedisWebhookStore(rig.broker.redis, rig.keys), rig.keys
    assert hooks.lock("one").take(60.0)
    assert hooks.advance("one", "1-1", {"whole": MESSAGE}, 5)
    for n, text in enumerate(BROKEN):
        rig.client.hset(keys.deliveries, f"broken {n}", text)
        rig.client.zadd(keys.deliveries_due, {f"broken {n}": 1, "nowhere": 1, b"\xff": 1})
    rig.client.hset(keys.deliveries, b"\xff", orjson.dumps(MESSAGE))
    assert set(hooks.under_way(100)) == {"whole"}
    assert hooks.due(10, 100) == {"whole": MESSAGE}
    assert rig.client.zrange(keys.deliveries_due, 0, -1) == [b"whole"]
    assert rig.client.hkeys(keys.deliveries) == [b"whole"]


def test_a_key_of_the_api_that_cannot_be_read_is_seen_and_can_be_revoked(rig: BrokerRig) -> None:
    vault = RedisApiKeyStore(rig.broker.redis, rig.keys)
    vault.add("whole", {"name": "n", "role": "read", "hash": "h"})
    rig.client.hset(rig.keys.api_keys, mapping={"broken": b"nonsense", b"\xff": b'{"queues":7}'})
    assert vault.all() == {"whole": {"name": "n", "role": "read", "hash": "h"}, "broken": {}, "\ufffd": {}}
    assert vault.remove("broken")


def test_one_delivers_and_only_its_own_lead_can_it_give_up(rig: BrokerRig) -> None:
    hooks = RedisWebhookStore(rig.broker.redis, rig.keys)
    one, two = hooks.lock("one"), hooks.lock("two")
    assert one.take(60.0)
    assert not two.take(60.0)
    assert one.take(60.0)
    two.give_up()
    assert not two.take(60.0), "only who leads can give it up"
    one.give_up()
    assert two.take(60.0)
    rig.client.set(rig.keys.deliverer, f"two {rig.now_ms - 1}")
    assert one.take(60.0), "it has lapsed"
    rig.client.set(rig.keys.deliverer, "of an earlier version")
    assert two.take(60.0)


def test_who_has_lost_the_lead_takes_nothing_on(rig: BrokerRig) -> None:
    hooks = RedisWebhookStore(rig.broker.redis, rig.keys)
    assert hooks.lock("two").take(60.0)
    assert not rig.unchanged(lambda: hooks.advance("one", "1-1", {"m": MESSAGE}, 5))
    assert hooks.advance("two", "1-1", {"m": MESSAGE}, 5)
    assert hooks.position() == "1-1"
