"""From what the operator wrote to one frozen, validated Config, or to one error that says where and why."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple

from . import log
from .addresses import AddressSet, Refusal, Rule
from .policy import Override
from .verdict import Verdict

STATIC = "static"
"""The source of what the operator wrote, in an AddressBook and in its rules."""

_NEVER_ANSWERED = {
    IPv6Network("::/128"): "unspecified addresses (::/128)",
    IPv6Network("::1/128"): "loopback addresses (::1/128)",
    IPv6Network("::ffff:0:0/96"): "IPv4-mapped addresses (::ffff:0:0/96)",
    IPv6Network("fe80::/10"): "link-local addresses (fe80::/10)",
    IPv6Network("ff00::/8"): "multicast addresses (ff00::/8)",
}


DEFAULT_FILE = "/etc/ndpresponder/ndpresponder.toml"
"""The configuration file, unless the operator names another."""

FEW_GROUPS = 1024
"""For how many addresses in a prefix the solicited-node groups are joined, unless the operator says otherwise."""


ENDPOINTS = "off, or an address of this host and a port, such as 127.0.0.1:9108 or [::1]:9108"
"""How an Endpoint, or none, is written."""


class Library(NamedTuple):
    """A library that only some configurations need: the name of its module, and what is said where it is missing."""

    module: str
    needed: str

    def is_installed(self) -> bool:
        """Whether it is there, without importing it."""
        return find_spec(self.module) is not None


DOCKER_SDK = Library(
    "docker",
    "docker-network (-N) needs the Docker SDK for Python: "
    "pip install 'ndpresponder[docker]', or apt install python3-docker",
)
PROMETHEUS_CLIENT = Library(
    "prometheus_client",
    "metrics need the Prometheus client for Python: "
    "pip install 'ndpresponder[metrics]', or apt install python3-prometheus-client",
)


class Multicast(Enum):
    """By what means multicast solicitations are brought to the uplink."""

    AUTO = "auto"
    """The interface receives all multicast, and the solicited-node groups are joined."""
    ALLMULTI = "allmulti"
    """The interface receives all multicast; the network is told nothing."""
    JOIN = "join"
    """The solicited-node groups are joined."""
    MRD = "mrd"
    """As AUTO, and this host poses as a multicast router (RFC 4286), to whom switches forward every group."""

    @property
    def allmulti(self) -> bool:
        """Whether the interface receives all multicast."""
        return self is not Multicast.JOIN

    @property
    def joins(self) -> bool:
        """Whether solicited-node groups are joined."""
        return self is not Multicast.ALLMULTI


class ConfigError(ValueError):
    """Something the operator wrote cannot be meant. The message names the place and the way out."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What to answer on one interface, and how.

    `entries` are what is answered for and what is not, `router` and `override` say with which flags. `wait` is whether
    a missing interface is waited for, or an error. `remarks` are things to tell the operator, none of them fatal.
    `few_groups` is the size, in addresses, up to which the groups of a prefix are joined. `keep_gateway` is whether to
    look after the gateway's neighbor entry, `announce` whether to announce what is known to live here.
    `docker_networks` are the names of those whose containers are answered for, `docker_unique_local` is whether that
    includes their unique-local addresses.
    """

    ifname: str
    entries: tuple[Rule | Refusal, ...]
    router: bool = True
    override: Override = Override.AUTO
    wait: bool = True
    remarks: tuple[str, ...] = field(default=(), compare=False)
    multicast: Multicast = Multicast.AUTO
    few_groups: int = FEW_GROUPS
    keep_gateway: bool = True
    announce: bool = True
    docker_networks: tuple[str, ...] = ()
    docker_unique_local: bool = False

    @property
    def prefixes(self) -> list[IPv6Network]:
        """The prefixes that are answered for, in the order in which they were given."""
        return [entry.prefix for entry in self.entries if isinstance(entry, Rule)]


class Endpoint(NamedTuple):
    """Where to listen: an IPv4 or IPv6 address of this host, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Config:
    """What one process does: on which interfaces, and how it logs (`log_level` is one of log.LEVELS).

    `control_group` may use the control socket: a group's name or number, or nothing. `metrics` is where Prometheus
    finds metrics, if it is to find any.
    """

    interfaces: tuple[Interface, ...]
    log_level: str = "INFO"
    log_format: log.Format = log.Format.AUTO
    control_group: str = ""
    metrics: Endpoint | None = None


class Written(NamedTuple):
    """A value as the operator wrote it, and where: behind a flag, or in a line of a file under a key."""

    where: str
    text: str


def may_be_ifname(text: str) -> bool:
    """Whether the kernel lets an interface have this name: dev_valid_name() of net/core/dev.c."""
    return re.fullmatch(r"(?!\.\.?$)[^\s/:\0]+", text) is not None and len(text.encode(errors="replace")) <= 15


def may_be_group(text: str) -> bool:
    """Whether it can be the name or the number of a group, or nothing; useradd(8) allows less than names can have."""
    if text.isdecimal():
        # The number after the last one means "none" to chown(2), which then leaves a file to the group it has.
        return text.isascii() and len(text) <= 10 and int(text) < (1 << 32) - 1
    return re.fullmatch(r"[^\s:,\0]{0,256}", text) is not None


def parse_addresses(
    prefixes: Iterable[str], exclusions: Iterable[str], *, more: bool = False
) -> tuple[tuple[Rule | Refusal, ...], tuple[str, ...]]:
    """Read the values of -n and -x as addresses_of() does, several in one value with commas or blanks between them."""
    answered = [Written("-n", text) for text in _split(prefixes)]
    if not answered and not more:
        raise ConfigError("nothing to answer for: name a prefix or an address, such as -n 2001:db8::/112")
    return addresses_of(answered, [Written("-x", text) for text in _split(exclusions)], more=more)


def addresses_of(
    answered: Sequence[Written], excluded: Sequence[Written], *, more: bool = False
) -> tuple[tuple[Rule | Refusal, ...], tuple[str, ...]]:
    """Read prefixes or addresses to answer for, and those to leave out, each a value of its own.

    `more` is whether there is something else to answer for, which is not known yet.

    Returns what is answered and what is not, and remarks for the operator. Raises ConfigError.
    """
    remarks: list[str] = []
    inside = [(written.where, _prefix(written, remarks)) for written in answered]
    outside = [(written.where, _prefix(written, remarks)) for written in excluded]
    remarks += (
        f"{where} {prefix} is wider than a /64: a scan of it can fill the router's neighbor table; "
        "name only the part that is in use"
        for where, prefix in inside
        if prefix.prefixlen < 64
    )
    remarks += (
        f"{where} {prefix} excludes nothing: nothing answered contains it, and the longest match decides"
        for where, prefix in outside
        if not more and not any(prefix.subnet_of(other) for _, other in inside)
    )
    rules = tuple(Rule(prefix, STATIC) for _, prefix in inside)
    refusals = tuple(Refusal(prefix, Verdict.EXCLUDED) for _, prefix in outside)
    entries = rules + refusals
    if inside and not AddressSet(entries).ranges():
        where, prefix = inside[0]
        raise ConfigError(f"{where} {prefix}: nothing to answer for: all that is named is excluded")
    return entries, tuple(remarks)


def may_be_network(text: str) -> bool:
    """Whether it can be the name of a Docker network; a slash would lead elsewhere in the engine's API."""
    return text.isprintable() and "/" not in text and bool(text)


def parse_networks(names: Iterable[str]) -> tuple[str, ...]:
    """Read the values of -N: names, each of them once. Raises ConfigError."""
    distinct = tuple(dict.fromkeys(names))
    for name in distinct:
        if not may_be_network(name):
            raise ConfigError(f"-N {name}: not the name of a Docker network; docker network ls lists them")
    return distinct


def endpoint_of(text: str) -> Endpoint | None:
    """Read ADDRESS:PORT, an IPv6 address in brackets, or "off". Raises ValueError for anything else."""
    if text == "off":
        return None
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[3]) < 1 << 16:
        raise ValueError(text)
    host = IPv6Address(match[1]) if match[1] else IPv4Address(match[2])
    return Endpoint(str(host), int(match[3]))


def parse_endpoint(text: str) -> Endpoint | None:
    """Read the value of --metrics. Raises ConfigError."""
    try:
        return endpoint_of(text)
    except ValueError as error:
        raise ConfigError(f"--metrics {text}: allowed: {ENDPOINTS}") from error


def _split(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield from value.replace(",", " ").split()


def _prefix(written: Written, remarks: list[str]) -> IPv6Network:
    where, text = written
    try:
        interface = IPv6Interface(text)
    except ValueError as error:
        raise ConfigError(f"{where} {text}: {_why_not(text, error)}") from error
    if interface.scope_id is not None:
        raise ConfigError(f"{where} {text}: a zone has no place in a prefix; the interface is named by itself")
    prefix = interface.network
    for never, name in _NEVER_ANSWERED.items():
        if prefix.overlaps(never):
            raise ConfigError(
                f"{where} {text}: {name} are never answered for; name a prefix of global or unique-local ones"
            )
    if interface.ip != prefix.network_address:
        remarks.append(f"{where} {text} has bits set beyond its length; taken as {prefix}")
    return prefix


def _why_not(text: str, error: ValueError) -> str:
    try:
        IPv4Network(text, strict=False)
    except ValueError:
        return f"not an IPv6 prefix such as 2001:db8::/112 ({error})"
    return "an IPv4 prefix; neighbor discovery is IPv6 only, for IPv4 the kernel has proxy_arp"
