"""Where webhooks may go: decided on addresses, not on names."""

import asyncio
import socket
from typing import Any

import pytest

from engine.errors import InvalidOption
from engine.services.api import targets
from engine.services.api.targets import NotDelivered


@pytest.mark.parametrize(("address", "may"), [
    ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("127.0.0.1", False), ("::1", False),
    ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
    ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("fe80::1%2", False),
    ("fd00::1", False), ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::a00:1", False),
    ("2002:a00:1::", False), ("ff02::1", False)])
def test_an_address_is_public_or_not(address: str, may: bool) -> None:
    assert targets.is_public(address) is may


@pytest.mark.parametrize("url", [
    "http://localhost/", "http://a.localhost/", "http://127.0.0.1/", "http://127.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://10.0.0.1:80/",
    "http://user@example.org/", "http://example.org:99999/", "http:///path", "http://[::1/", "http://exämple.org/",
    "http://example.org\\@10.0.0.1/"])
def test_a_url_that_is_of_no_use_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        targets.check(url, "webhook.url", private=False)
    assert refused.value.field == "webhook.url"


def test_other_urls_are_fine() -> None:
    targets.check("https://example.org:8443/hook?a=b", private=False)
    targets.check("http://127.0.0.1:8000/", private=True)


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when first asked, and private when asked again, gets nothing sent to the private one."""
    asked: list[str] = []
    connected: list[str] = []

    async def post() -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            asked.append(host)
            address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        async def open_connection(host: str, port: int, **_: Any) -> Any:
            connected.append(host)
            raise ConnectionRefusedError("the test ends here")

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        with pytest.raises(NotDelivered, match="the test ends here"):
            await targets.post("http://rebind.example/", b"", {}, private=False)
        with pytest.raises(NotDelivered, match="private or loopback"):
            await targets.post("http://rebind.example/", b"", {}, private=False)

    asyncio.run(post())
    assert (asked, connected) == (["rebind.example"] * 2, ["93.184.216.34"])
