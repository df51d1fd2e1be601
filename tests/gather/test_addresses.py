"""Which addresses may be asked. The worst case is a redirect or a DNS answer that leads into a private network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest

from drivetrain.data.gather.addresses import AddressRule, parse_url, resolve_by_system
from drivetrain.data.gather.refusal import Refused

from .web import resolver

PUBLIC = ["93.184.215.14", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.255",
          "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2a00:1450:4001::200e", "::ffff:8.8.8.8", "64:ff9b::808:808",
          "2002:808:808::1", "2001:200::1"]  # fmt: skip
OPENED = [
    ("10.1.2.3", "a private network"),
    ("172.16.0.1", "a private network"),
    ("172.31.255.255", "a private network"),
    ("192.168.1.1", "a private network"),
    ("100.64.0.1", "a provider's inner network"),
    ("127.0.0.1", "this machine"),
    ("127.255.255.254", "this machine"),
    ("::1", "this machine"),
    ("fc00::1", "a private network"),
    ("fd12:3456::1", "a private network"),
    ("::ffff:127.0.0.1", "this machine"),
    ("::ffff:10.0.0.1", "a private network"),
    ("64:ff9b::a00:1", "a private network"),
    ("64:ff9b::7f00:1", "this machine"),
    ("2002:7f00:1::", "this machine"),
    ("2002:c0a8:101::5", "a private network"),
]
CLOSED = [
    ("169.254.169.254", "link-local, where clouds keep their metadata service"),
    ("169.254.0.1", "link-local, where clouds keep their metadata service"),
    ("::ffff:169.254.169.254", "link-local, where clouds keep their metadata service"),
    ("64:ff9b::a9fe:a9fe", "link-local, where clouds keep their metadata service"),
    ("2002:a9fe:a9fe::1", "link-local, where clouds keep their metadata service"),
    ("100.100.100.200", "a cloud's metadata service"),
    ("fd00:42::42", "a cloud's metadata service"),
    ("168.63.129.16", "a cloud's metadata service"),
    ("fd00:ec2::254", "a cloud's metadata service"),
    ("0.0.0.0", "this machine"),
    ("0.1.2.3", "this machine"),
    ("::", "this machine"),
    ("::ffff:0.0.0.0", "this machine"),
    ("192.0.0.192", "reserved"),
    ("192.0.2.1", "for documentation"),
    ("198.18.0.1", "for benchmarks"),
    ("198.51.100.7", "for documentation"),
    ("203.0.113.7", "for documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "reserved"),
    ("ff02::1", "multicast"),
    ("::7f00:1", "reserved"),
    ("64:ff9b:1::1", "reserved"),
    ("100::1", "reserved"),
    ("2001::1", "reserved"),
    ("2001:db8::1", "for documentation"),
    ("4000::1", "reserved"),
    ("no address", "no address"),
]


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("allow_private", [False, True])
def test_the_internet_is_open(address: str, allow_private: bool) -> None:
    assert AddressRule(allow_private=allow_private).why_not(address) is None


@pytest.mark.parametrize(("address", "what"), OPENED)
def test_private_networks_open_when_asked(address: str, what: str) -> None:
    assert AddressRule().why_not(address) == what
    assert AddressRule(allow_private=True).why_not(address) is None


@pytest.mark.parametrize(("address", "what"), CLOSED)
def test_some_stay_closed_whatever_is_asked(address: str, what: str) -> None:
    assert AddressRule().why_not(address) == what
    assert AddressRule(allow_private=True).why_not(address) == what


def no_dns(host: str, timeout_s: float) -> Sequence[str]:
    raise AssertionError(f"the DNS was asked for {host}")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://0x7f000001/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://0177.1/", "127.0.0.1"),
        ("http://127.1/", "127.0.0.1"),
        ("http://017700000001/", "127.0.0.1"),
        ("http://0/", "0.0.0.0"),
        ("http://2852039166/", "169.254.169.254"),
        ("http://0xA9.0xFE.0xA9.0xFE/", "169.254.169.254"),
        ("http://[::1]/", "::1"),
        ("http://[::ffff:7f00:1]/", "::ffff:7f00:1"),
        ("http://[0:0:0:0:0:ffff:169.254.169.254]/", "::ffff:a9fe:a9fe"),
        ("http://[fe80::1%25eth0]/", "fe80::1"),
    ],
)
def test_every_spelling_of_an_address_is_read(url: str, address: str) -> None:
    with pytest.raises(Refused, match=r"^private address: ") as refused:
        AddressRule().find_addresses(parse_url(url).host, no_dns, timeout_s=1)
    assert address in refused.value.refusal.detail
    assert refused.value.refusal.limit == "allow-private false"
    assert not refused.value.may_retry


def test_an_allowed_literal_needs_no_dns() -> None:
    assert AddressRule().find_addresses("8.8.8.8", no_dns, timeout_s=1) == ["8.8.8.8"]
    assert AddressRule(allow_private=True).find_addresses("127.1", no_dns, timeout_s=1) == ["127.0.0.1"]


def test_one_bad_answer_spoils_a_host() -> None:
    dns = resolver({"mixed.test": ["8.8.8.8", "10.0.0.1"], "good.test": ["8.8.8.8", "8.8.4.4"]})
    assert AddressRule().find_addresses("good.test", dns, timeout_s=1) == ["8.8.8.8", "8.8.4.4"]
    with pytest.raises(Refused, match=r"mixed\.test is 10\.0\.0\.1, a private network"):
        AddressRule().find_addresses("mixed.test", dns, timeout_s=1)
    for host in ("gone.test", "999999999999", "0x"):
        with pytest.raises(Refused, match=f"unknown host: {host} has no address"):
            AddressRule().find_addresses(host, dns, timeout_s=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://a.test/x.jpg", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("data:image/png;base64,AAAA", "scheme 'data'"),
        ("gopher://127.0.0.1/", "scheme 'gopher'"),
        ("a.test/x.jpg", "no http:// or https:// before it"),
        ("//a.test/x.jpg", "no http:// or https:// before it"),
        ("http://me:secret@a.test/", "a user name or password before the host"),
        ("http://127.0.0.1\\@a.test/", "a user name or password before the host"),
        ("http:///x.jpg", "no host"),
        ("http://a.test:0/", "port 0"),
        ("http://0177.0.0.1/", "Invalid IPv4 address"),
        ("http://a.test:99999/", "port 99999"),
        ("http://\uff11\uff12\uff17.0.0.1/", "Invalid IDNA"),
        ("http://a.test/" + "x" * 4_000, "4,014 characters"),
    ],
)
def test_what_is_no_address_of_the_web(text: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_url(text)
    assert refused.value.refusal.reason == "bad_url"
    assert why in refused.value.refusal.detail


def test_an_address_has_one_spelling() -> None:
    assert str(parse_url("  HTTP://A.Test:80/b%C3%A4r 1.jpg?q=\u00fc#top ")) == (
        "http://a.test/b%C3%A4r%201.jpg?q=%C3%BC"
    )
    assert str(parse_url("http://a.test/x\x1b[31m\ny")) == "http://a.test/x%1B[31m%0Ay"
    assert parse_url("https://b\u00e4r.test/").raw_host == b"xn--br-via.test"


@pytest.mark.parametrize(
    ("answer", "told", "may_retry"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "a.test: Name or service not known", False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "a.test: Temporary failure", True),
        (UnicodeError("label too long"), "a.test: label too long", False),
    ],
)
def test_the_systems_dns_that_fails_is_told(
    answer: Exception, told: str, may_retry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise answer

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Refused) as refused:
        resolve_by_system("a.test", 5)
    assert refused.value.refusal.detail == told
    assert (refused.value.may_retry, refused.value.host_failed) == (may_retry, True)


def test_the_systems_dns_is_waited_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def wait(*args: object, **kwargs: object) -> list[object]:
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    with pytest.raises(Refused, match=r"no answer for a\.test in 0 s"):
        resolve_by_system("a.test", 0.02)
    over.set()


def test_the_systems_dns_knows_this_machine() -> None:
    assert {"127.0.0.1", "::1"} & set(resolve_by_system("localhost", 10))
