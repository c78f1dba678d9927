"""Kernel: requests to the kernel, and what becomes of replies that are not as they should be."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from errno import EMSGSIZE, EOPNOTSUPP
from ipaddress import IPv6Network
from struct import pack

import pytest
from namespaces import Namespace
from wire import Wire

from ndpresponder import rtnetlink
from ndpresponder.netlink import routes
from ndpresponder.rtnetlink import NLM_F_DUMP, Kernel, attributes

GETADDR = 22
DST = 1
IPV6 = pack("=B7x", 10)
MANY = 2000
"""Entries: five pages and more, of which the kernel has no more than a few ready before they are read."""


@pytest.fixture
def host(wire: Wire) -> Namespace:
    """A host whose table of addresses takes several reads."""
    wire.host.batch(f"address add 2001:db8::{number:x}/128 dev eth0 nodad" for number in range(1, MANY + 1))
    wire.host.ip("link set eth0 addrgenmode none")
    wire.host.ip("address flush dev eth0 scope link")
    wire.host.ip("address flush dev lo")
    return wire.host


@pytest.fixture
def kernel(host: Namespace) -> Iterator[Kernel]:
    with host.entered():
        kernel = Kernel()
    with closing(kernel):
        yield kernel


def test_a_table(kernel: Kernel) -> None:
    assert len(kernel.request(GETADDR, NLM_F_DUMP, IPV6)) == MANY
    assert kernel.request(GETADDR, NLM_F_DUMP, IPV6, keep=lambda _: False) == []


@pytest.mark.parametrize(("changes", "looks"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_table_that_changes_is_read_again(host: Namespace, kernel: Kernel, changes: int, looks: int) -> None:
    read = 0

    def keep(_: bytes) -> bool:
        nonlocal read
        # Amid the first page of each look: what comes later is of another table, and the kernel says so.
        if read // MANY < changes and read % MANY == 5:
            host.ip("address add 2001:db8:1::1/128 dev lo nodad")
            host.ip("address del 2001:db8:1::1/128 dev lo")
        read += 1
        return True

    assert len(kernel.request(GETADDR, NLM_F_DUMP, IPV6, keep=keep)) == MANY
    assert read == looks * MANY


def test_what_the_kernel_refuses(kernel: Kernel) -> None:
    with pytest.raises(OSError, match="not supported") as caught:
        kernel.request(255, 0, IPV6)
    assert caught.value.errno == EOPNOTSUPP


def test_what_does_not_fit_is_no_reply(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtnetlink, "LONGEST_MESSAGES", 200)
    with pytest.raises(OSError, match="too long") as caught:
        kernel.request(GETADDR, NLM_F_DUMP, IPV6)
    assert caught.value.errno == EMSGSIZE


def prefix(number: int) -> IPv6Network:
    return IPv6Network((0x20010DB8 << 96 | number << 80, 48))


@pytest.mark.parametrize(
    ("deleted", "added", "looks"),
    # What has been read by then; and what comes last, the kernel having begun anew to find it.
    [([], [], 1), ([], [MANY + 1], 1), (range(1, 81), [], 2), (range(1, 81), [MANY + 1], 2)],
    ids=["still", "added", "deleted", "both"],
)
def test_no_route_is_missed(wire: Wire, deleted: Sequence[int], added: Sequence[int], looks: int) -> None:
    wire.host.batch(f"route add {prefix(number)} dev eth0" for number in range(1, MANY + 1))
    found: list[IPv6Network] = []

    def keep(message: bytes) -> bool:
        [destination] = [value for kind, value in attributes(message, 28) if kind == DST]
        found.append(IPv6Network((destination, message[17])))
        if len(found) == 100:
            wire.host.batch(f"route del {prefix(number)} dev eth0" for number in deleted)
            wire.host.batch(f"route add {prefix(number)} dev eth0" for number in added)
        return found[-1] == prefix(MANY)

    with wire.host.entered(), closing(Kernel()) as kernel:
        assert len(routes(kernel, keep)) == looks
    assert set(found) >= set(map(prefix, [*range(81, MANY + 1), *added]))
