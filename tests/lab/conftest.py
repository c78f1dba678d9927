"""What the lab's tests share: the lab in its variants, and a neighbor on the guest's link."""

import shutil
from collections.abc import Iterator

import pytest
from lab import GUEST_PREFIX, Lab, set_link_addresses
from namespaces import Namespace, connect

TOOLS = (
    "ebtables-nft",
    "ip",
    "nft",
    "nsenter",
    "ping",
    "sysctl",
    "tcpdump",
    "ndisc6",
    "ndppd",
    "atk6-fuzz_ip6",
    "atk6-flood_solicitate6",
)


@pytest.fixture(autouse=True, scope="session")
def _requirements(root: None) -> None:  # noqa: ARG001 - skips where root is not to be had
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The lab whose router solicits from its link-local address."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def neighbor(lab: Lab) -> Iterator[Namespace]:
    """Another host on the link, plugged into the hypervisor's bridge, whom no rule restrains."""
    with Namespace("neighbor") as host:
        host.sysctl("net/ipv6/conf/default/accept_dad", 0)
        connect(host, "eth0", lab.hypervisor, "neighbor")
        lab.plug_in("neighbor")
        set_link_addresses(host, "eth0", "52:54:00:00:00:03", "fe80::3")
        host.ip(f"address add 2001:db8:1::3/{GUEST_PREFIX.prefixlen} dev eth0")
        yield host
