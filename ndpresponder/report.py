"""What a configuration means, in words for people: what would be answered on which interface."""

from collections.abc import Collection, Iterable, Iterator

from .addresses import AddressSet, Refusal
from .config import Config, Multicast, Settings
from .multicast import groups_of
from .netlink import AUTO
from .policy import Override

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


def report(settings: Settings, present: Collection[str]) -> Iterator[str]:
    """Yield the lines of a report; `present` are the interfaces that this host has now."""
    for config in settings.interfaces:
        yield f"{config.ifname}{_presence(config, present)}"
        rows = list(_rows(config))
        width = max(len(title) for title, _ in rows)
        for title, values in rows:
            for number, value in enumerate(values):
                yield f"  {'' if number else title:{width}}  {value}"
        yield ""
    yield f"log-level {settings.log_level}, log-format {settings.log_format.value}"
    for config in settings.interfaces:
        yield from (f"warning: {remark}" for remark in config.remarks)


def _presence(config: Config, present: Collection[str]) -> str:
    if config.ifname == AUTO:
        return ": the interface of the default route"
    if config.ifname in present:
        return ""
    return " (not here now; " + ("waits for it)" if config.wait else "fails without it)")


def _rows(config: Config) -> Iterator[tuple[str, Iterable[str]]]:
    yield "answers for", map(str, config.prefixes)
    yield "but not for", [str(entry.prefix) for entry in config.entries if isinstance(entry, Refusal)]
    flags = "Router" if config.router else "no Router"
    yield "flags", [f"{flags}, {_OVERRIDE[config.override]}"]
    yield "multicast", _multicast(config)
    yield "gateway", ["its neighbor entry is kept usable" if config.keep_gateway else "left to the kernel"]


def _multicast(config: Config) -> Iterator[str]:
    yield _MULTICAST[config.multicast]
    if config.multicast.joins:
        groups = groups_of(AddressSet(config.entries), config.few_groups)
        yield f"{len(groups.joined)} groups joined"
        yield from (f"none for {prefix}: more than {config.few_groups} addresses" for prefix in groups.wide)
