"""What a configuration means, in words for people: what would be answered on which interface."""

from collections.abc import Collection, Iterable, Iterator

from .addresses import AddressSet, Refusal
from .config import Config, Interface, Multicast
from .multicast import groups_of
from .netlink import AUTO
from .policy import Override

_WIDTH = len("answers for")
_MULTICAST = {
    Multicast.AUTO: "all that arrives, and joined groups",
    Multicast.ALLMULTI: "all that arrives",
    Multicast.JOIN: "joined groups",
    Multicast.MRD: "all that arrives, joined groups, and posing as a multicast router",
}
_OVERRIDE = {
    Override.AUTO: "Override for addresses that are known to live here",
    Override.ALWAYS: "Override",
    Override.NEVER: "no Override",
}


def report(settings: Config, present: Collection[str], *, has_group: bool) -> Iterator[str]:
    """Yield the lines of a report; `present` are the interfaces that this host has now.

    `has_group` is whether it has the group that may use the control socket, if one is named.
    """
    for config in settings.interfaces:
        yield f"{config.ifname}{_presence(config, present)}"
        for title, values in _rows(config):
            for number, value in enumerate(values):
                yield f"  {'' if number else title:{_WIDTH}}  {value}"
        yield ""
    yield f"log-level {settings.log_level}, log-format {settings.log_format.value}"
    group = f"{settings.control_group or 'none'}{'' if has_group else ' (there is no such group here)'}"
    yield f"metrics {settings.metrics or 'off'}, control-group {group}"
    for config in settings.interfaces:
        yield from (f"warning: {remark}" for remark in config.remarks)


def _presence(config: Interface, present: Collection[str]) -> str:
    if config.ifname == AUTO:
        return ": the interface of the default route"
    if config.ifname in present:
        return ""
    return " (not here now; " + ("waits for it)" if config.wait else "fails without it)")


def _rows(config: Interface) -> Iterator[tuple[str, Iterable[str]]]:
    yield "answers for", map(str, config.prefixes)
    yield "but not for", [str(entry.prefix) for entry in config.entries if isinstance(entry, Refusal)]
    yield "containers", _containers(config)
    flags = "Router" if config.router else "no Router"
    yield "flags", [f"{flags}, {_OVERRIDE[config.override]}"]
    yield "multicast", _multicast(config)
    yield "gateway", ["its neighbor entry is kept usable" if config.keep_gateway else "left to the kernel"]


def _containers(config: Interface) -> Iterator[str]:
    for name in config.docker_networks:
        yield f"of the Docker network {name}"
    if config.docker_networks:
        yield (
            "their unique-local addresses too" if config.docker_unique_local else "but not their unique-local addresses"
        )
        yield "announced when they come" if config.announce else "not announced"


def _multicast(config: Interface) -> Iterator[str]:
    yield _MULTICAST[config.multicast]
    if config.multicast.joins:
        groups = groups_of(AddressSet(config.entries), config.few_groups)
        yield f"{len(groups.joined)} groups joined"
        yield from (f"none for {prefix}: more than {config.few_groups} addresses" for prefix in groups.wide)
