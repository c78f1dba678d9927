"""A virtual KVM host in network namespaces, for tests and for the demo.

    internet -- router -- hypervisor -- vps -- container

The guest's prefix is on-link at the router, so it solicits each address. The hypervisor's anti-spoofing rule drops
what the guest sends from outside its prefix, link-local sources included: that is what makes a container
unreachable whose neighbor solicitations are answered from a link-local address.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from ipaddress import IPv6Network
from signal import SIGTERM
from typing import Any, Literal, NamedTuple, Self

from namespaces import Namespace, connect, end, sweep

GUEST_PREFIX = IPv6Network("2001:db8:1::/64")
VPS = "2001:db8:1::2"
INNER_PREFIX = IPv6Network("2001:db8:1::d000/120")
INNER_GATEWAY = "2001:db8:1::d001"
CONTAINER = "2001:db8:1::d003"

INTERNET = "2001:db8:ffff::2"
ROUTER_WAN = "2001:db8:ffff::1"
ROUTER_LINK_LOCAL = "fe80::1"
ROUTER_GLOBAL = "2001:db8:2::1"

ROUTER_MAC = "52:54:00:00:00:01"
VPS_MAC = "52:54:00:00:00:02"
VPS_LINK_LOCAL = "fe80::2"

ALLMULTI = 0x200  # IFF_ALLMULTI, linux/if.h

STRAY = 0x999999
"""The last 24 bits of a solicited-node group of none of these addresses."""

SOLICITATIONS_AND_ADVERTISEMENTS = "icmp6 and (ip6[40] == 135 or ip6[40] == 136)"

# Changes the source of each solicitation as the kernel sends it and mends its checksum. Left alone, the kernel solicits
# for what it forwards from the interface's link-local address (ndisc_solicit in net/ipv6/ndisc.c), and so it does
# in each unicast probe; masquerading would change the first kind only.
_SOLICIT_FROM_GLOBAL = f"""
table ip6 lab {{
    chain output {{
        type filter hook output priority 0;
        oifname "lan" icmpv6 type nd-neighbor-solicit ip6 saddr set {ROUTER_GLOBAL}
    }}
}}
"""

# Virtualizor's rule, with the advertisements counted apart: other frames, such as MLD reports, come when they like.
# This ebtables is the one in Debian's iptables package; kernels come without the tables that the legacy one needs.
_ANTI_SPOOFING = (
    "-N SPOOFED",
    "-A SPOOFED -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type neighbour-advertisement -j DROP",
    "-A SPOOFED -j DROP",
    f"-A FORWARD -i guest -p IPv6 --ip6-src ! {GUEST_PREFIX} -j SPOOFED",
)


# In hundredths of a second: a query each second, and a group is forgotten that was not reported again after two.
_QUICK_QUERIES = (
    "mcast_mld_version 2 mcast_startup_query_interval 50 mcast_query_interval 100 mcast_query_response_interval 50 "
    "mcast_membership_interval 250 mcast_last_member_interval 10"
)
QUERIES = "ip6[6] == 0 and ip6[48] == 130"
"""MLD queries: a hop-by-hop header comes first."""


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 5) -> None:
    """Wait until a condition holds for which there is no event to await."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.01)


class Printing(ABC):
    """What runs, and prints lines."""

    command: str

    @abstractmethod
    def printed(self) -> str:
        """Return all that was printed so far to standard output and standard error."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """Return the exit code, or None if it has not ended."""

    def lines(self, *words: str) -> list[str]:
        """Return the whole lines printed so far that have all of these words in them."""
        whole, _, _ = self.printed().rpartition("\n")
        return [line for line in whole.splitlines() if all(word in line for word in words)]

    def wait_for(self, *words: str, timeout: float = 5) -> str:
        """Wait for a line that has all of these words in it, and return the first."""

        def there() -> bool:
            # In this order: what an ended program has printed is complete.
            code = self.exit_code()
            found = bool(self.lines(*words))
            if code is not None and not found:
                raise RuntimeError(f"{self.command}: exit {code}\n{self.printed()}")
            return found

        wait_until(there, f"a line with {words} from {self.command}", timeout)
        return self.lines(*words)[0]


class Program(Printing):
    """A program that runs inside a namespace, and what it has printed so far."""

    def __init__(self, namespace: Namespace, *command: str, configuration: str = "") -> None:
        """Start the command; it can read `configuration` from its standard input."""
        self.command = " ".join(command)
        # Files in memory: nothing to remove, and unlike a pipe never full.
        with ExitStack() as undo:
            self._printed = undo.enter_context(os.fdopen(os.memfd_create("printed"), "w+b"))
            configured = undo.enter_context(os.fdopen(os.memfd_create("configuration"), "w+b"))
            configured.write(configuration.encode())
            configured.seek(0)
            self.process = namespace.popen(*command, stdin=configured, stdout=self._printed, stderr=subprocess.STDOUT)
            undo.callback(end, self.process)
            self._cleanup = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def printed(self) -> str:
        """Return all that was printed so far to standard output and standard error."""
        descriptor = self._printed.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    def exit_code(self) -> int | None:
        """Return the exit code, or None if it has not ended."""
        return self.process.poll()

    def wait(self, timeout: float = 10) -> int:
        """Wait for the end of the program and return its exit code."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """Ask the program to end, and return its exit code."""
        self.process.send_signal(SIGTERM)
        return self.wait()


class Ping(NamedTuple):
    """The outcome of a ping."""

    sent: int
    received: int


def ping(namespace: Namespace, address: str, *, count: int = 1, wait: float = 2, interval: float = 0.1) -> Ping:
    """Ping an address, with `wait` seconds of patience for the last answers."""
    words = f"ping -6 -n -q -c {count} -W {wait} -i {interval} {address}".split()
    done = namespace.run(*words, check=False, timeout=count * interval + wait + 30)
    figures = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    if figures is None:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return Ping(int(figures[1]), int(figures[2]))


class Lab:
    """The five hosts, wired and configured on entry and gone on exit, together with what was started in them.

    `solicits_from` says from which kind of address the router solicits: its link-local address, or a global one that
    is outside the guest's prefix.

    `gateway_known` gives the vps a permanent neighbor entry for the router, as administrators do: the
    anti-spoofing rule drops the vps' own solicitations for its gateway too, for these come from its link-local
    address when it forwards. Without the entry nothing that the container sends leaves the vps by itself.

    `snooping` lets the hypervisor's bridge snoop on MLD, and query: it forwards multicast only to where somebody has
    reported the group, or where a multicast router is.

    `filtered` is whether there is the anti-spoofing rule.
    """

    def __init__(
        self,
        solicits_from: Literal["link-local", "global"] = "link-local",
        *,
        gateway_known: bool = True,
        snooping: bool = False,
        filtered: bool = True,
    ) -> None:
        self._solicits_from = solicits_from
        self._gateway_known = gateway_known
        self._snooping = snooping
        self._filtered = filtered
        self.internet = Namespace("internet")
        self.router = Namespace("router")
        self.hypervisor = Namespace("hypervisor")
        self.vps = Namespace("vps")
        self.container = Namespace("container")

    def __enter__(self) -> Self:
        sweep()
        with ExitStack() as undo:
            for host in (self.internet, self.router, self.hypervisor, self.vps, self.container):
                undo.enter_context(host)
                # Addresses are usable at once: no duplicate address detection.
                host.sysctl("net/ipv6/conf/default/accept_dad", 0)
            self._wire()
            self._configure_internet()
            self._configure_router()
            self._configure_hypervisor()
            self._configure_vps()
            self._configure_container()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _wire(self) -> None:
        connect(self.internet, "eth0", self.router, "wan")
        connect(self.router, "lan", self.hypervisor, "uplink")
        connect(self.vps, "docker0", self.container, "eth0")

    def _configure_internet(self) -> None:
        self.internet.ip(f"address add {INTERNET}/64 dev eth0")
        self.internet.ip(f"route add default via {ROUTER_WAN}")

    def _configure_router(self) -> None:
        self.router.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.router.ip(f"address add {ROUTER_WAN}/64 dev wan")
        set_link_addresses(self.router, "lan", ROUTER_MAC, ROUTER_LINK_LOCAL)
        if self._solicits_from == "global":
            self.router.ip(f"address add {ROUTER_GLOBAL}/64 dev lan")
            self.router.run("nft", _SOLICIT_FROM_GLOBAL)
        self.router.ip(f"route add {GUEST_PREFIX} dev lan")

    def _configure_hypervisor(self) -> None:
        # It bridges, and says nothing itself.
        self.hypervisor.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        self.hypervisor.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
        self.hypervisor.ip(f"link add br0 type bridge mcast_snooping {int(self._snooping)}")
        if self._snooping:
            # Without an address of its own to query from, a bridge does not query, and then does not snoop either.
            self.hypervisor.sysctl("net/ipv6/conf/br0/disable_ipv6", 0)
            self.hypervisor.ip(f"link set br0 type bridge {_QUICK_QUERIES}")
            # Last, for it floods for as long as the first answers can take by then.
            self.hypervisor.ip("link set br0 type bridge mcast_querier 1")
        self.hypervisor.ip("link set br0 up")
        self.plug_in("uplink")
        for rule in _ANTI_SPOOFING if self._filtered else ():
            self.hypervisor.run("ebtables-nft", *rule.split())

    def _configure_vps(self) -> None:
        self.vps.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.vps.ip(f"address add {INNER_GATEWAY}/{INNER_PREFIX.prefixlen} dev docker0")
        self.lay_uplink()

    def lay_uplink(self) -> None:
        """Lay the cable between the hypervisor's bridge and the vps, and configure the vps' end, its eth0."""
        connect(self.hypervisor, "guest", self.vps, "eth0")
        self.plug_in("guest")
        set_link_addresses(self.vps, "eth0", VPS_MAC, VPS_LINK_LOCAL)
        self.vps.ip(f"address add {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
        self.vps.ip(f"route add default via {ROUTER_LINK_LOCAL} dev eth0")
        if self._gateway_known:
            self.vps.ip(f"neighbor add {ROUTER_LINK_LOCAL} lladdr {ROUTER_MAC} nud permanent dev eth0")

    def _configure_container(self) -> None:
        self.container.ip(f"address add {CONTAINER}/{INNER_PREFIX.prefixlen} dev eth0")
        self.container.ip(f"route add default via {INNER_GATEWAY}")

    def plug_in(self, port: str) -> None:
        """Make an interface of the hypervisor a port of its bridge."""
        self.hypervisor.ip(f"link set {port} master br0")

    def ping_in(self, *, count: int = 1, wait: float = 2, interval: float = 0.1) -> Ping:
        """Ping the container from the internet."""
        return ping(self.internet, CONTAINER, count=count, wait=wait, interval=interval)

    def ping_out(self, *, count: int = 1, wait: float = 2, interval: float = 0.1) -> Ping:
        """Ping the internet from the container."""
        return ping(self.container, INTERNET, count=count, wait=wait, interval=interval)

    def hears_stray_group(self) -> bool:
        """Whether the vps gets what the router sends to the group STRAY, which nobody joins by himself."""
        group = f"ff02::1:ff{STRAY >> 16:x}:{STRAY & 0xFFFF:x}"
        mac = b"\x33\x33\xff" + STRAY.to_bytes(3, "big")
        with self.vps.entered():
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with self.router.entered():
            mouth = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            index = socket.if_nametoindex("lan")
        with ear, mouth:
            ear.bind(("eth0", 0x86DD))
            ear.settimeout(0.1)
            mouth.sendto(b"", (group, 9, 0, index))
            with suppress(TimeoutError):
                while True:
                    if ear.recv(65536)[:6] == mac:
                        return True
        return False

    def forget(self) -> None:
        """Empty the router's neighbor table, and with it the memory of a resolution that failed."""
        self.router.ip("neighbor flush dev lan")

    def router_neighbor(self, address: str = CONTAINER) -> dict[str, Any]:
        """Return the router's neighbor entry for an address as `ip` tells it; empty when there is none."""
        entries: list[dict[str, Any]] = json.loads(self.router.ip(f"-json -6 neighbor show to {address} dev lan"))
        return entries[0] if entries else {}

    def dropped(self, what: Literal["frames", "advertisements"] = "frames") -> int:
        """Return how many frames of the guest, or advertisements among them, the hypervisor has dropped."""
        listing = self.hypervisor.run("ebtables-nft", "-L", "SPOOFED", "--Lc").stdout
        advertisements, others = map(int, re.findall(r"pcnt = (\d+)", listing))
        return advertisements if what == "advertisements" else advertisements + others

    def uplink_flags(self) -> int:
        """Return the flags of the vps' eth0 as the kernel keeps them, with those that sockets have asked for.

        `ip link` shows only the flags that were set by ioctl; sysfs shows all, for the namespace that mounted it.
        """
        show = "mount -t sysfs sysfs /sys && cat /sys/class/net/eth0/flags"
        return int(self.vps.run("unshare", "--mount", "sh", "-c", show).stdout, 16)

    def start(self, namespace: Namespace, *command: str, configuration: str = "") -> Program:
        """Start a program inside; it is ended with the lab at the latest."""
        return self._cleanup.enter_context(Program(namespace, *command, configuration=configuration))

    def capture(self, namespace: Namespace, interface: str, expression: str, *options: str) -> Program:
        """Let tcpdump print, one line each, the frames on an interface that match an expression, from now on."""
        words = "tcpdump", "-n", "-t", "-l", "--immediate-mode", *options, "-i", interface, expression
        capture = self.start(namespace, *words)
        capture.wait_for("listening on")
        return capture

    def ndpresponder(self, *arguments: str) -> Program:
        """Start ndpresponder on the vps and wait until it answers; by default for the container's prefix."""
        words = sys.executable, "-m", "ndpresponder", "--log-format", "json"
        uplink = () if "-c" in arguments else ("-i", "eth0")
        daemon = self.start(self.vps, *words, *uplink, *(arguments or ("-n", str(INNER_PREFIX))))
        daemon.wait_for('"event": "ready"')
        return daemon

    def ndppd(self) -> Program:
        """Start ndppd on the vps, answering for the container's prefix, and wait until it listens."""
        daemon = self.start(
            self.vps,
            *("ndppd", "-c", "/dev/stdin"),
            configuration=f"proxy eth0 {{ rule {INNER_PREFIX} {{ static }} }}\n",
        )
        wait_until(lambda: bool(self.uplink_flags() & ALLMULTI), "ndppd listening")
        return daemon


def set_link_addresses(host: Namespace, interface: str, mac: str, link_local: str) -> None:
    """Give an interface addresses that are easy to recognize, in place of random ones."""
    host.ip(f"link set {interface} address {mac} addrgenmode none")
    host.ip(f"address flush dev {interface}")
    host.ip(f"address add {link_local}/64 dev {interface}")
