"""The facts of this host that decide what becomes of a packet for an address behind it.

Everything here is read, nothing is changed, and no opinion is had: that is `checks`. What cannot be read is None.
"""

import json
import os
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise
from pathlib import Path
from socket import if_nameindex, if_nametoindex
from typing import Any, NamedTuple

from .link import is_up
from .netlink import AUTO, Neighbor, Neighbors, Survey

_PROC = Path("/proc")
_SYSCTL = _PROC / "sys/net/ipv6"
# linux/capability.h
_CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
_OTHERS = ("ndppd", "npd6", "pndpd", "odhcpd")
OURS = "ndpresponder"
"""The name of the Responders that are this program."""
_PATIENCE = 10.0
"""Seconds that nft may take."""
_FORWARDING_HOOKS = {"prerouting", "forward", "postrouting"}
# Frames pass these before and after packet sockets do, neighbor solicitations and their answers, too.
_DEVICE_HOOKS = {"ingress", "egress"}
# What a rule can have in front of its verdict without choosing among packets.
_NO_CHOICE = {"counter", "log"}
_LET_PASS = {"accept", "jump", "goto", "vmap", "queue", "xt"}


class Responder(NamedTuple):
    """A process that answers solicitations.

    `capabilities` are those in effect. `certain` is whether it is known to answer on the uplink; else it may be at work
    elsewhere, which cannot be seen.
    """

    pid: int
    name: str
    capabilities: frozenset[str]
    certain: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is this program that answers on the uplink."""
        return self.certain and self.name == OURS


class Firewall(Enum):
    """What a chain of the firewall does to packets, as far as can be told without one."""

    OPEN = "open"
    """Nothing, unless a rule is about them."""
    CLOSED = "closed"
    """It drops all."""
    DEPENDS = "depends"
    """It drops what no rule accepts, and there are some that accept; or all, but perhaps of another interface."""


class Chain(NamedTuple):
    """A base chain of a hook on the way of packets. `drops` are prefixes whose packets it drops, whatever they are."""

    family: str
    table: str
    name: str
    hook: str
    effect: Firewall
    drops: tuple[IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the kernel is set to; None: not there, or not readable.

    `legacy_firewall` is whether the filter of the old ip6tables is in use, which nftables knows nothing about.
    """

    forwarding: int | None
    uplink_forwarding: int | None
    accept_ra: int | None
    ip_nonlocal_bind: int | None
    proxy_ndp: bool
    gc_thresh3: int | None
    legacy_firewall: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of this host and its surroundings.

    `named` is whether the operator named the prefixes; else they are the uplink's on-link prefixes. `up` is whether the
    operator has the uplink up, `neighbors` are its neighbor entries, `proxied` the addresses that the kernel answers
    for on it, `capabilities` those of this process, `devices` the interfaces beside it.
    """

    survey: Survey
    named: bool
    up: bool
    settings: Settings
    neighbors: tuple[Neighbor, ...]
    proxied: tuple[IPv6Address, ...]
    responders: tuple[Responder, ...]
    chains: tuple[Chain, ...] | None
    capabilities: frozenset[str]
    devices: tuple[str, ...]

    @property
    def ifname(self) -> str:
        """The uplink's name."""
        return self.survey.snapshot.ifname

    @property
    def prefixes(self) -> tuple[IPv6Network, ...]:
        """What this is about."""
        return self.survey.prefixes


def read(survey: Survey, *, named: bool) -> Facts:
    """Read what `survey` does not have. Raises OSError when the interface is gone."""
    ifname = survey.snapshot.ifname
    with closing(Neighbors(if_nametoindex(ifname))) as table:
        neighbors, proxied = table.all(), table.proxied()
    return Facts(
        survey,
        named,
        is_up(ifname),
        _settings(ifname),
        tuple(each for each in neighbors if not each.address.is_multicast),
        tuple(proxied),
        tuple(_responders(ifname)),
        _chains(ifname),
        _capabilities(_PROC / "self"),
        tuple(name for _, name in if_nameindex() if name not in ("lo", ifname)),
    )


def inhabited() -> set[IPv6Address]:
    """Return the addresses of which the kernel knows that somebody has them, on whichever interface."""
    with closing(Neighbors(0)) as table:
        return {neighbor.address for neighbor in table.all() if neighbor.link_address}


def _settings(ifname: str) -> Settings:
    interface = _SYSCTL / "conf" / ifname
    return Settings(
        forwarding=_number(_SYSCTL / "conf/all/forwarding"),
        uplink_forwarding=_number(interface / "forwarding"),
        accept_ra=_number(interface / "accept_ra"),
        ip_nonlocal_bind=_number(_SYSCTL / "ip_nonlocal_bind"),
        proxy_ndp=bool(_number(_SYSCTL / "conf/all/proxy_ndp") or _number(interface / "proxy_ndp")),
        gc_thresh3=_number(_SYSCTL / "neigh/default/gc_thresh3"),
        legacy_firewall="filter" in _words(_PROC / "net/ip6_tables_names"),
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _capabilities(process: Path) -> frozenset[str]:
    """The effective capabilities of a process: capabilities(7)."""
    held = 0
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            held = int(value, 16)
    return frozenset(name for number, name in _CAPABILITIES.items() if held >> number & 1)


def _responders(ifname: str) -> Iterator[Responder]:
    """The processes of this network namespace that answer on `ifname`, and those that may."""
    here = (_PROC / "self/ns/net").stat().st_ino
    heard_by = _packet_sockets(if_nametoindex(ifname))
    for process in sorted(_PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        # One that ends meanwhile.
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            name = responder_of(words, ifname)
            if name is None:
                continue
            try:
                if (process / "ns/net").stat().st_ino != here:
                    continue
                # With a file, or where the default route leads: which interface that is, the kernel knows.
                if name == OURS and _uplink_of(words) != ifname and heard_by.isdisjoint(_sockets_of(process)):
                    continue
                certain = True
            except PermissionError:
                # ptrace(2), "Ptrace access mode checking": who is not root may not look into processes of others.
                certain = False
            yield Responder(int(process.name), name, _capabilities(process), certain)


def _packet_sockets(index: int) -> set[str]:
    """Return the inode numbers of the packet sockets that are bound to an interface: packet_seq_show() of Linux."""
    rows = map(str.split, (_PROC / "net/packet").read_text().splitlines()[1:])
    return {inode for _, _, _, _, bound_to, *_, inode in rows if bound_to == str(index)}


def _sockets_of(process: Path) -> Iterator[str]:
    """Yield the inode numbers of a process's sockets: proc_pid_fd(5)."""
    for descriptor in (process / "fd").iterdir():
        # Closed meanwhile.
        with suppress(FileNotFoundError):
            kind, _, inode = str(descriptor.readlink()).partition(":")
            if kind == "socket":
                yield inode.strip("[]")


def responder_of(words: Sequence[str], ifname: str) -> str | None:
    """Return the name of the responder that has this command line, if it is one that can answer on `ifname`."""
    names = [os.path.basename(word) for word in words]  # noqa: PTH119 - a word, perhaps no path
    if names and names[0] in _OTHERS:
        return names[0]
    # A script: its interpreter, with options or without, comes first.
    if OURS not in names[:4] or not names[0].startswith((OURS, "python")):
        return None
    arguments = words[names.index(OURS) + 1 :]
    # Its commands end by themselves, and answer nothing.
    if arguments and not arguments[0].startswith("-"):
        return None
    uplink = _uplink_of(arguments)
    return OURS if uplink in (None, ifname, AUTO) else None


def _uplink_of(arguments: Sequence[str]) -> str | None:
    for word, following in pairwise([*arguments, ""]):
        if word in ("-i", "--ifname"):
            return following
        if word.startswith("--ifname="):
            return word.removeprefix("--ifname=")
        if word.startswith("-i"):
            return word[2:]
    return None


def _chains(ifname: str) -> tuple[Chain, ...] | None:
    """Ask nft; None when it is missing, or not allowed to tell."""
    # Terse: without the elements of sets, of which there can be a hundred thousand.
    command = ["nft", "--json", "--terse", "list", "ruleset"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True)  # noqa: S603 - no word of it comes from outside
        return chains_of(json.loads(done.stdout), ifname)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError, AttributeError):
        return None


def chains_of(ruleset: Any, ifname: str) -> tuple[Chain, ...]:
    """Return the chains that IPv6 packets from and to the uplink pass, and what they do, from nft's JSON.

    Source: libnftables-json(5).
    """
    entries = ruleset["nftables"]
    chains = [entry["chain"] for entry in entries if _concerns(entry.get("chain", {}), ifname)]
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    return tuple(
        _chain(
            chain,
            [
                rule["expr"]
                for rule in rules
                if (rule["family"], rule["table"], rule["chain"]) == (chain["family"], chain["table"], chain["name"])
            ],
        )
        for chain in chains
    )


def _concerns(chain: Any, ifname: str) -> bool:
    if chain.get("hook") in _DEVICE_HOOKS:
        devices = chain.get("dev", ifname)
        return chain["family"] in ("inet", "netdev") and ifname in ([devices] if isinstance(devices, str) else devices)
    return chain.get("hook") in _FORWARDING_HOOKS and chain["family"] in ("ip6", "inet")


def _chain(chain: Any, rules: Sequence[Any]) -> Chain:
    hook = chain["hook"]
    effect = _effect(rules, drops=chain.get("policy") == "drop")
    # Of which device it is, nft 1.0.6 does not tell.
    if effect is Firewall.CLOSED and hook in _DEVICE_HOOKS and "dev" not in chain:
        effect = Firewall.DEPENDS
    fields = {"daddr"} if hook == "ingress" else {"saddr", "daddr"}
    return Chain(chain["family"], chain["table"], chain["name"], hook, effect, tuple(_dropped(rules, fields)))


def _dropped(rules: Iterable[Any], fields: Collection[str]) -> Iterator[IPv6Network]:
    """The prefixes that rules drop by the address alone, up to the first rule that may let something pass."""
    for expressions in rules:
        statements = {name for expression in expressions for name in expression} - _NO_CHOICE
        if not statements & {"drop", "reject"}:
            if statements & _LET_PASS:
                return
            continue
        matches = [expression["match"] for expression in expressions if "match" in expression]
        if len(matches) != 1 or len(statements) != 2 or matches[0]["op"] != "==":
            continue
        address = matches[0]["left"].get("payload", {})
        if address.get("protocol") == "ip6" and address.get("field") in fields:
            yield from _networks(matches[0]["right"])


def _networks(right: Any) -> Iterator[IPv6Network]:
    """The prefixes that an address is compared with, as far as they are written there."""
    for each in right["set"] if isinstance(right, dict) and "set" in right else [right]:
        # A range; a set that has a name.
        with suppress(ValueError, KeyError):
            prefix = each["prefix"] if isinstance(each, dict) else {"addr": each, "len": 128}
            yield IPv6Network((prefix["addr"], prefix["len"]))


def _effect(rules: Iterable[Any], *, drops: bool) -> Firewall:
    """What becomes of a packet of which nothing is known."""
    some_accepted = False
    for expressions in rules:
        statements = {name for expression in expressions for name in expression} - _NO_CHOICE
        if statements == {"accept"}:
            drops = False
            break
        if statements in ({"drop"}, {"reject"}):
            drops = True
            break
        # A match in front of a drop is about something special; every other rule may let pass.
        some_accepted |= not statements & {"drop", "reject"} and bool(statements & _LET_PASS)
    if not drops:
        return Firewall.OPEN
    return Firewall.DEPENDS if some_accepted else Firewall.CLOSED
