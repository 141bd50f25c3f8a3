"""Webhooks, messages and keys of the API in Redis, when somebody else has written there too."""

import orjson

from engine.adapters.redis.records.api_keys import RedisApiKeyStore
from engine.adapters.redis.records.webhooks import RedisWebhookStore
from engine.ports.webhooks import OWN, new_secret
from tests.scripts.shop import Shop

HOOK = {"secret": new_secret(), "url": "http://x", "on": ["FAILED"]}
MESSAGE = {"task_id": "t", "status": "FAILED", "tries": 0, "body": {}, "url": "http://x", "webhook": None}
BROKEN = [b"", b"7", b"[]", b"{}", b"\xff", b'{"secret":7}', b'{"tries":-1}',
          b'{"tries":0,"task_id":"t"}', orjson.dumps({"secret": new_secret(), "url": "http://x"})]


def test_a_webhook_that_cannot_be_read_is_none(shop: Shop) -> None:
    hooks = RedisWebhookStore(shop.broker.redis, shop.keys)
    shop.client.hset(shop.keys.webhooks, mapping={b"broken %d" % n: text for n, text in enumerate(BROKEN)})
    shop.client.hset(shop.keys.webhooks, OWN, b"nonsense")
    hooks.add("whole", HOOK)
    assert hooks.all() == {"whole": HOOK}
    secret = hooks.own_secret()
    assert hooks.own_secret() == secret
    assert set(hooks.all()) == {"whole", OWN}


def test_a_message_that_cannot_be_read_is_thrown_away(shop: Shop) -> None:
    hooks, keys = RedisWebhookStore(shop.broker.redis, shop.keys), shop.keys
    assert hooks.lock("one").take(60.0)
    assert hooks.advance("one", "1-1", {"whole": MESSAGE}, 5)
    for n, text in enumerate(BROKEN):
        shop.client.hset(keys.deliveries, f"broken {n}", text)
        shop.client.zadd(keys.deliveries_due, {f"broken {n}": 1, "nowhere": 1, b"\xff": 1})
    shop.client.hset(keys.deliveries, b"\xff", orjson.dumps(MESSAGE))
    assert set(hooks.under_way(100)) == {"whole"}
    assert hooks.due(10, 100) == {"whole": MESSAGE}
    assert shop.client.zrange(keys.deliveries_due, 0, -1) == [b"whole"]
    assert shop.client.hkeys(keys.deliveries) == [b"whole"]


def test_a_key_of_the_api_that_cannot_be_read_is_seen_and_can_be_revoked(shop: Shop) -> None:
    vault = RedisApiKeyStore(shop.broker.redis, shop.keys)
    vault.add("whole", {"name": "n", "role": "read", "hash": "h"})
    shop.client.hset(shop.keys.api_keys, mapping={"broken": b"nonsense", b"\xff": b'{"queues":7}'})
    assert vault.all() == {"whole": {"name": "n", "role": "read", "hash": "h"}, "broken": {}, "\ufffd": {}}
    assert vault.remove("broken")


def test_one_delivers_and_only_its_own_lead_can_it_give_up(shop: Shop) -> None:
    hooks = RedisWebhookStore(shop.broker.redis, shop.keys)
    one, two = hooks.lock("one"), hooks.lock("two")
    assert one.take(60.0)
    assert not two.take(60.0)
    assert one.take(60.0)
    two.give_up()
    assert not two.take(60.0), "only who leads can give it up"
    one.give_up()
    assert two.take(60.0)
    shop.client.set(shop.keys.deliverer, f"two {shop.now_ms - 1}")
    assert one.take(60.0), "it has lapsed"
    shop.client.set(shop.keys.deliverer, "of an earlier version")
    assert two.take(60.0)


def test_who_has_lost_the_lead_takes_nothing_on(shop: Shop) -> None:
    hooks = RedisWebhookStore(shop.broker.redis, shop.keys)
    assert hooks.lock("two").take(60.0)
    assert not shop.unchanged(lambda: hooks.advance("one", "1-1", {"m": MESSAGE}, 5))
    assert hooks.advance("two", "1-1", {"m": MESSAGE}, 5)
    assert hooks.position() == "1-1"
