"""Which addresses webhooks may be sent to: decided on addresses, not on names."""

import pytest

from engine.errors import InvalidOption
from engine.services.webhooks.addresses import check_url, is_public


@pytest.mark.parametrize(("address", "may"), [
    ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("127.0.0.1", False), ("::1", False),
    ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
    ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("fe80::1%2", False),
    ("fd00::1", False), ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::a00:1", False),
    ("2002:a00:1::", False), ("ff02::1", False), ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False),
    ("64:ff9b:1::7f00:1", False), ("fec0::1", False), ("192.0.0.8", False), ("192.88.99.1", False), ("100::1", False),
    ("2001:db8::1", False), ("3fff::1", False), ("5f00::1", False), ("4000::1", False), ("64:ff9b::5db8:d822", True)])
def test_an_address_is_public_or_not(address: str, may: bool) -> None:
    assert is_public(address) is may


@pytest.mark.parametrize("url", [
    "http://localhost/", "http://a.localhost/", "http://127.0.0.1/", "http://127.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://10.0.0.1:80/",
    "http://user@example.org/", "http://example.org:99999/", "http:///path", "http://[::1/", "http://exämple.org/",
    "http://example.org\\@10.0.0.1/"])
def test_a_url_that_is_of_no_use_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        check_url(url, "webhook.url", private=False)
    assert refused.value.field == "webhook.url"


def test_other_urls_are_fine() -> None:
    check_url("https://example.org:8443/hook?a=b", private=False)
    check_url("http://127.0.0.1:8000/", private=True)
