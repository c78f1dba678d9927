"""From what the operator wrote to one frozen, validated Config, or to one error that says where and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Interface, IPv6Network

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


FEW_GROUPS = 1024
"""For how many addresses in a prefix the solicited-node groups are joined, unless the operator says otherwise."""


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
class Config:
    """What to answer on one interface, and how.

    `remarks` are things to tell the operator, none of them fatal. `few_groups` is the size up to which the groups of
    a prefix are joined. `keep_gateway` is whether to look after the gateway's neighbor entry, `announce` whether to
    announce what is known to live here.
    `docker_networks` are the names of those whose containers are answered for, `docker_unique_local` is whether that
    includes their unique-local addresses.
    """

    ifname: str
    entries: tuple[Rule | Refusal, ...]
    router: bool
    override: Override
    wait: bool
    remarks: tuple[str, ...]
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


def parse_addresses(
    prefixes: Iterable[str], exclusions: Iterable[str], *, more: bool = False
) -> tuple[tuple[Rule | Refusal, ...], tuple[str, ...]]:
    """Read the values of -n and -x: prefixes or addresses, several in one value with commas or blanks between them.

    `more` is whether there is something else to answer for, which is not known yet.

    Returns what is answered and what is not, and remarks for the operator. Raises ConfigError.
    """
    remarks: list[str] = []
    answered = [_prefix("-n", text, remarks) for text in _split(prefixes)]
    excluded = [_prefix("-x", text, remarks) for text in _split(exclusions)]
    remarks += (
        f"-n {prefix} is wider than a /64: a scan of it can fill the router's neighbor table; "
        "name only the part that is in use"
        for prefix in answered
        if prefix.prefixlen < 64
    )
    remarks += (
        f"-x {prefix} excludes nothing: it is inside of no -n, and the longest match decides"
        for prefix in excluded
        if not more and not any(prefix.subnet_of(other) for other in answered)
    )
    rules = tuple(Rule(prefix, STATIC) for prefix in answered)
    refusals = tuple(Refusal(prefix, Verdict.EXCLUDED) for prefix in excluded)
    entries = rules + refusals
    if not answered and more:
        return entries, tuple(remarks)
    if not answered:
        raise ConfigError("nothing to answer for: name a prefix or an address, such as -n 2001:db8::/112")
    if not AddressSet(entries).ranges():
        raise ConfigError("nothing to answer for: what -n names, -x excludes")
    return entries, tuple(remarks)


def parse_networks(names: Iterable[str]) -> tuple[str, ...]:
    """Read the values of -N: names, each of them once. Raises ConfigError."""
    distinct = tuple(dict.fromkeys(names))
    for name in distinct:
        if not name or "/" in name or not name.isprintable():
            raise ConfigError(f"-N {name}: not the name of a Docker network; docker network ls lists them")
    return distinct


def _split(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield from value.replace(",", " ").split()


def _prefix(flag: str, text: str, remarks: list[str]) -> IPv6Network:
    try:
        interface = IPv6Interface(text)
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: {_why_not(text, error)}") from error
    if interface.scope_id is not None:
        raise ConfigError(f"{flag} {text}: a zone has no place in a prefix; the interface is named with -i")
    prefix = interface.network
    for never, name in _NEVER_ANSWERED.items():
        if prefix.overlaps(never):
            raise ConfigError(
                f"{flag} {text}: {name} are never answered for; name a prefix of global or unique-local ones"
            )
    if interface.ip != prefix.network_address:
        remarks.append(f"{flag} {text} has bits set beyond its length; taken as {prefix}")
    return prefix


def _why_not(text: str, error: ValueError) -> str:
    try:
        IPv4Network(text, strict=False)
    except ValueError:
        return f"not an IPv6 prefix such as 2001:db8::/112 ({error})"
    return "an IPv4 prefix; neighbor discovery is IPv6 only, for IPv4 the kernel has proxy_arp"
