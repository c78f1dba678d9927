"""What is known of what containers hold, and which rules follow from it. Values alone: the asking is `docker`'s.

A daemon without -N holds an empty State, and needs nothing else of this or of that.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network
from types import MappingProxyType
from typing import NamedTuple

from .addresses import Rule

DOCKER = "docker"
"""The source of what containers hold, in an AddressBook."""


class Held(NamedTuple):
    """What the containers of a network hold, and how many addresses were left out."""

    addresses: frozenset[IPv6Address]
    unique_local: int = 0
    """Left out because they are unique-local (RFC 4193)."""
    malformed: int = 0
    """Left out because they are no unicast IPv6 addresses."""
    on_link: str = ""
    """The network's driver, if it plugs containers into the uplink's link, where they answer for themselves."""


class Network(NamedTuple):
    """What is known of one network."""

    held: Held | None
    """None: there is no network of this name."""
    obstacle: str = ""
    """Why the last look was in vain, if it was and that is to be said; `held` is what was known before."""


class State(NamedTuple):
    """All that is known at a moment. It is handed over whole."""

    networks: Mapping[str, Network] = MappingProxyType({})
    """By name; those that have never been looked at are missing."""
    obstacle: str = ""
    """Why the engine cannot be asked, if it cannot; `networks` is what was known before."""
    deaf: str = ""
    """Why the engine does not tell of events, if it refuses to; it is asked every now and then."""
    fatal: str = ""
    """Why there is no use in going on, if there is none."""


def rules(state: State, names: Iterable[str]) -> Iterator[Rule]:
    """Yield what to answer for where the networks of these names are followed."""
    for name in names:
        network = state.networks.get(name)
        if network and network.held:
            source = source_of(name)
            for address in network.held.addresses:
                yield Rule(IPv6Network((int(address), 128)), source, lives_here=True)


def source_of(name: str) -> str:
    """Return what rules for the network of this name have as their source."""
    return f"{DOCKER}:{name}"
