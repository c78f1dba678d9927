"""What stands in the way of a packet for an address behind this host, and what mends it: one check for each thing.

Pure functions from the facts of the host, and from what was heard on the link, to findings. Each check stands alone: it
says what it sees, whatever the others say.

`of_address` has those that concern one address, whoever wants to know.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv6Address, IPv6Network

from .docker import Described
from .hearing import Conclusion, Heard, conclude
from .host import OURS, Chain, Facts, Firewall
from .log import some
from .netlink import NUD_FAILED, NUD_INCOMPLETE, Route, on_link

_MOST_NAMED = 4
_MOST_MENDED = 8
"""How many commands a finding has."""
_LARGEST_TABLE = 65536
"""Neighbor entries that a host with little memory can afford: each takes about half a kilobyte."""
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


class Level(Enum):
    """How bad it is."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `check` is its name, which stays; `mend` the commands that mend it, or advice.

    `conclusion` is for the check that listens.
    """

    check: str
    level: Level
    message: str
    mend: tuple[str, ...] = ()
    conclusion: Conclusion | None = None


def of_host(facts: Facts) -> Iterator[Finding]:
    """Check everything that can be told without listening."""
    for check in _OF_HOST:
        yield _short(check(facts))


def of_link(facts: Facts, heard: Heard, pinged: IPv6Address | None) -> Iterator[Finding]:
    """Check what was heard on the link. `pinged` is the address that the operator was asked to ping."""
    yield _short(_delivery(facts, heard, pinged))
    yield _snooping(heard)
    yield _conflicts(facts, heard)


def of_networks(networks: Iterable[Described]) -> Iterator[Finding]:
    """Check Docker networks."""
    name = "docker-ipv6"
    for network in networks:
        anew = f"docker network rm {network.name} && docker network create --ipv6 --subnet PREFIX {network.name}"
        if network.subnets is None:
            message = f"there is no Docker network {network.name}"
            yield Finding(name, Level.FAIL, message, ("docker network ls",))
        elif not network.subnets:
            message = f"Docker network {network.name} has no IPv6"
            yield Finding(name, Level.FAIL, message, (anew,))
        elif all(subnet.subnet_of(_UNIQUE_LOCAL) for subnet in network.subnets):
            message = f"Docker network {network.name} has {some(network.subnets)}, which nobody outside can reach"
            yield Finding(name, Level.WARN, message, (anew,))
        else:
            yield Finding(name, Level.PASS, f"Docker network {network.name} has {some(network.subnets)}")


def of_address(facts: Facts, address: IPv6Address) -> Iterator[Finding]:
    """Check what stands in the way of packets for one address. The facts must be about a prefix that has it."""
    prefixes = (IPv6Network(address),)
    about_it = replace(facts, named=True, survey=facts.survey._replace(prefixes=prefixes))
    for check in _OF_ADDRESS:
        yield check(about_it)


def _short(finding: Finding) -> Finding:
    """Leave out most of what is the same for each of a thousand prefixes."""
    left_out = len(finding.mend) - _MOST_MENDED
    if left_out <= 0:
        return finding
    return replace(finding, mend=(*finding.mend[:_MOST_MENDED], f"and so on, for {left_out} more"))


# Routes


def inward(facts: Facts, prefix: IPv6Network) -> list[Route]:
    """Return the routes that lead packets for a prefix, or for parts of it, to where they live.

    The one for the prefix as a whole is the longest, and of those the one with the smallest metric.
    """
    inside = (
        route
        for route in facts.survey.routes
        if route.prefix != prefix and route.prefix.subnet_of(prefix) and not _is_of_an_address(route)
    )
    whole = _best(facts, prefix)
    return [route for route in (*([whole] if whole else []), *inside) if _leads_inward(route, facts.ifname)]


def _best(facts: Facts, prefix: IPv6Network) -> Route | None:
    covering = [route for route in facts.survey.routes if prefix.subnet_of(route.prefix)]
    return min(covering, key=lambda route: (-route.prefix.prefixlen, route.metric), default=None)


def _is_of_an_address(route: Route) -> bool:
    """Whether the kernel made it for an address of this host."""
    return route.kind == "local" and route.protocol == "kernel"


def _leads_inward(route: Route, uplink: str) -> bool:
    if route.kind == "local":
        return not (_is_of_an_address(route) and route.ifname == uplink)
    # What is behind a default route is no inside, and what goes back out by the uplink neither.
    return route.kind == "unicast" and route.ifname != uplink and route.prefix.prefixlen > 0


def _all_inward(facts: Facts) -> list[Route]:
    routes = (route for prefix in facts.prefixes for route in inward(facts, prefix))
    return list(dict.fromkeys(routes))


def _is_forwarded(facts: Facts) -> bool:
    """Whether anything has to be forwarded: not where all that has a way inward ends on this host."""
    return {route.kind for route in _all_inward(facts)} != {"local"}


# What can be told without listening


def _interface(facts: Facts) -> Finding:
    name, ifname = "interface", facts.ifname
    if facts.up:
        return Finding(name, Level.PASS, f"{ifname} is up")
    return Finding(name, Level.FAIL, f"{ifname} is down: nothing comes or goes there", (f"ip link set {ifname} up",))


def _prefix(facts: Facts) -> Finding:
    name, shared = "prefix", on_link(facts.survey.snapshot.addresses)
    if not facts.named or not shared:
        return Finding(name, Level.PASS, f"on-link on {facts.ifname}: {some(shared) if shared else 'no prefix'}")
    beside = [
        prefix
        for prefix in facts.prefixes
        # A Docker network's, of which `docker-ipv6` tells.
        if not prefix.subnet_of(_UNIQUE_LOCAL) and not any(prefix.subnet_of(each) for each in shared)
    ]
    if not beside:
        return Finding(name, Level.PASS, f"inside of {some(shared)}, the on-link prefix of {facts.ifname}")
    message = f"{some(beside)} is not inside of {some(shared)}, the on-link prefix of {facts.ifname}: "
    message += "is it written right?"
    mend = ("compare it with what the provider has assigned; one beside the link's own can be right, too",)
    return Finding(name, Level.WARN, message, mend)


def _forwarding(facts: Facts) -> Finding:
    name, key, value = "forwarding", "net.ipv6.conf.all.forwarding", facts.settings.forwarding
    if value is None:
        return Finding(name, Level.WARN, f"{key} cannot be read")
    if value:
        return Finding(name, Level.PASS, f"{key} is {value}")
    if not _is_forwarded(facts):
        return Finding(name, Level.PASS, f"{key} is 0, and nothing has to be forwarded")
    message = f"{key} is 0: this host drops what is not for itself"
    return Finding(name, Level.FAIL, message, (f"sysctl -w {key}=1",))


def _accept_ra(facts: Facts) -> Finding:
    name, settings, ifname = "accept-ra", facts.settings, facts.ifname
    # With slashes: a VLAN's interface has a dot in its name (sysctl(8)).
    mend = (f"sysctl -w net/ipv6/conf/{ifname}/accept_ra=2",)
    if settings.accept_ra is None or settings.uplink_forwarding is None:
        return Finding(name, Level.WARN, f"accept_ra of {ifname} cannot be read")
    if settings.accept_ra != 1 or not settings.uplink_forwarding:
        return Finding(name, Level.PASS, f"accept_ra is {settings.accept_ra} on {ifname}")
    # A forwarding host with accept_ra 1 ignores router advertisements (ip-sysctl.rst of Linux).
    ignores = f"accept_ra is 1 on {ifname}, which forwards and so ignores router advertisements"
    defaults = [route for route in facts.survey.routes if route.prefix.prefixlen == 0 and route.ifname == ifname]
    if not defaults:
        return Finding(name, Level.FAIL, f"{ignores}; it has no default route", mend)
    if all(route.protocol == "ra" for route in defaults):
        return Finding(name, Level.WARN, f"{ignores}; unless a program renews it, the default route expires", mend)
    return Finding(name, Level.PASS, f"the default route of {ifname} does not come from router advertisements")


def _route_inward(facts: Facts) -> Finding:
    name = "route-inward"
    without = [prefix for prefix in facts.prefixes if not inward(facts, prefix)]
    if not without:
        ways = [
            f"{route.prefix} " + ("is delivered here" if route.kind == "local" else f"goes to {route.ifname}")
            for route in _all_inward(facts)
        ]
        return Finding(name, Level.PASS, some(ways))
    mend = _routes_to_add(facts, without)
    if facts.named and len(facts.devices) != 1:
        mend += (f"ip -6 route add local {without[0]} dev lo  # for a proxy pool on this host",)
    return Finding(name, Level.FAIL, f"no route leads {some(without)} inward: {_astray(facts, without[0])}", mend)


def _routes_to_add(facts: Facts, prefixes: Sequence[IPv6Network]) -> tuple[str, ...]:
    device = facts.devices[0] if len(facts.devices) == 1 else "DEVICE"
    if prefixes and not facts.named:
        # All of the on-link prefix must not leave the uplink.
        return (f"ip -6 route add PART dev {device}  # for the part of it that lives there",)
    return tuple(f"ip -6 route replace {prefix} dev {device}" for prefix in prefixes)


def _astray(facts: Facts, prefix: IPv6Network) -> str:
    best = _best(facts, prefix)
    if best is None:
        return "there is none at all"
    if best.kind == "local":
        return f"{best.ifname} itself has it"
    return f"it goes out by {best.ifname}" if best.kind == "unicast" else f"it is dropped (a {best.kind} route)"


def _nonlocal_bind(facts: Facts) -> Finding:
    name, key = "nonlocal-bind", "net.ipv6.ip_nonlocal_bind"
    pools = [route.prefix for route in _all_inward(facts) if route.kind == "local" and not _is_of_an_address(route)]
    if not pools:
        return Finding(name, Level.PASS, "no prefix is delivered to programs on this host")
    if facts.settings.ip_nonlocal_bind:
        return Finding(name, Level.PASS, f"programs can send from all of {some(pools)}")
    message = f"{key} is 0: programs can send from an address of {some(pools)} only with an option (IPV6_FREEBIND)"
    return Finding(name, Level.WARN, message, (f"sysctl -w {key}=1",))


def _assigned(facts: Facts) -> Finding:
    name, lengths = "assigned", {address.ip: address.network.prefixlen for address in facts.survey.snapshot.addresses}
    singles = {prefix.network_address for prefix in facts.prefixes if prefix.prefixlen == 128}
    own = sorted(singles & lengths.keys())
    if not own:
        return Finding(name, Level.PASS, f"{facts.ifname} itself has no address that shall live elsewhere")
    message = f"{some(own)} is assigned to {facts.ifname} itself, whose kernel answers, and keeps the packets"
    mend = tuple(f"ip -6 address del {each}/{lengths[each]} dev {facts.ifname}" for each in own)
    return Finding(name, Level.FAIL, message, mend)


def _forward_policy(facts: Facts) -> Finding:
    name, forwarded = "forward-policy", _is_forwarded(facts)
    if facts.chains is None:
        if not forwarded:
            return Finding(name, Level.PASS, "nothing has to be forwarded")
        return Finding(name, Level.WARN, "the firewall is unknown: no nft, or no permission", ("ip6tables -S FORWARD",))
    chains = [chain for chain in facts.chains if forwarded or chain.hook != "forward"]
    closed = [chain for chain in chains if chain.effect is Firewall.CLOSED]
    if closed:
        mend = tuple(
            f"nft insert rule {_path(chain)} {rule} accept" for chain in closed for rule in _needs(facts, chain)
        )
        return Finding(name, Level.FAIL, f"the firewall lets nothing pass ({_places(closed)})", mend)
    dropped = {
        prefix: chain
        for chain in chains
        for prefix in chain.drops
        if any(prefix.overlaps(each) for each in facts.prefixes)
    }
    if dropped:
        whole = any(each.subnet_of(prefix) for prefix in dropped for each in facts.prefixes)
        where = dict.fromkeys(dropped.values())
        message = f"rules of the firewall drop {some(list(dropped))} ({_places(where)})"
        mend = tuple(f"nft -a list chain {_path(chain)}  # and delete the rule, or accept before it" for chain in where)
        return Finding(name, Level.FAIL if whole else Level.WARN, message, mend)
    depends = [chain for chain in chains if chain.effect is Firewall.DEPENDS]
    if depends:
        message = f"the firewall lets nothing pass but what its rules accept ({_places(depends)}): look at them"
        return Finding(name, Level.WARN, message, tuple(f"nft list chain {_path(chain)}" for chain in depends))
    if forwarded and facts.settings.legacy_firewall:
        message = "there are rules of the old ip6tables, which nft does not show: look at them"
        return Finding(name, Level.WARN, message, ("ip6tables-legacy -S FORWARD",))
    # Which is all that is looked at.
    message = "no chain of nftables drops all that passes, and no rule this by its address alone"
    return Finding(name, Level.PASS, message)


def _needs(facts: Facts, chain: Chain) -> Iterator[str]:
    """What a chain has to accept."""
    if chain.hook != "forward":
        yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
    for prefix in facts.prefixes:
        yield f"ip6 saddr {prefix}"
        yield f"ip6 daddr {prefix}"


def _places(chains: Iterable[Chain]) -> str:
    return some([_path(chain) + (f" at {chain.hook}" if chain.hook != "forward" else "") for chain in chains])


def _path(chain: Chain) -> str:
    return f"{chain.family} {chain.table} {chain.name}"


def _responders(facts: Facts) -> Finding:
    name = "responders"
    ours = [each for each in facts.responders if each.is_ours]
    others = [each for each in facts.responders if each.certain and each.name != OURS]
    unseen = [f"{each.name} (pid {each.pid})" for each in facts.responders if not each.certain]
    proxied = [each for each in facts.proxied if any(each in prefix for prefix in facts.prefixes)]
    problems = [f"{each.name} (pid {each.pid}) answers" for each in others]
    mend = [f"kill {each.pid}" for each in others]
    if proxied and facts.settings.proxy_ndp:
        problems.append(f"the kernel answers for {some(proxied)} (proxy_ndp)")
        mend += (f"ip -6 neighbor del proxy {each} dev {facts.ifname}" for each in proxied)
    if problems:
        problems[-1] += ", from an address of this host, which a provider's filter may drop"
    if len(ours) > 1:
        problems.append(f"{len(ours)} times {OURS} answers")
        mend += (f"kill {each.pid}" for each in ours[1:])
    # Another one alone can be all that is needed where nothing is filtered.
    level = Level.FAIL if ours and problems else Level.WARN
    if unseen:
        problems.append(f"whether it answers on {facts.ifname} cannot be seen from here: {some(unseen)}")
        mend.append("look again as root, who can see it")
    if problems:
        return Finding(name, level, "; ".join(problems), tuple(mend))
    seen = f"{OURS} (pid {ours[0].pid}) and nothing else" if ours else f"none was seen that answers on {facts.ifname}"
    return Finding(name, Level.PASS, seen)


def _gateway(facts: Facts) -> Finding:
    name, gateways = "gateway", facts.survey.snapshot.gateways
    if not gateways:
        return Finding(name, Level.WARN, f"no default route by way of a gateway on {facts.ifname}")
    entries = {each.address: each for each in facts.neighbors if each.address in gateways}
    lost = [each.address for each in entries.values() if each.state & (NUD_FAILED | NUD_INCOMPLETE)]
    if lost:
        message = f"{some(lost)} does not answer the kernel: a filter for the prefix drops link-local solicitations"
        how = (
            "it asks in the kernel's place"
            if _has_global(facts)
            else "with CAP_NET_ADMIN it asks in the kernel's place"
        )
        mend = (f"ndpresponder -i {facts.ifname} {_needed(facts)}  # {how}",)
        return Finding(name, Level.FAIL, message, mend)
    known = [each.address for each in entries.values() if each.link_address]
    return Finding(name, Level.PASS, f"{some(known)} is known" if known else f"nobody asked for {some(gateways)} yet")


def _neighbor_table(facts: Facts) -> Finding:
    name, key, limit = "neighbor-table", "net.ipv6.neigh.default.gc_thresh3", facts.settings.gc_thresh3
    if limit is None:
        return Finding(name, Level.PASS, f"{key} is the host's, not this network namespace's")
    size = sum(
        max(
            (
                min(prefix.num_addresses, route.prefix.num_addresses)
                for route in inward(facts, prefix)
                if route.kind == "unicast" and route.gateway is None
            ),
            default=0,
        )
        for prefix in facts.prefixes
    )
    if size <= limit:
        return Finding(name, Level.PASS, f"{key} is {limit}, for {size} addresses")
    message = f"{key} is {limit}: a scan of all {size} addresses fills the table"
    if size > _LARGEST_TABLE:
        return Finding(name, Level.WARN, message, ("answer only for the part that is in use, such as a /120",))
    return Finding(name, Level.WARN, message, (f"sysctl -w {key}={2 * size}",))


def _has_global(facts: Facts) -> bool:
    """Whether the uplink has an address to ask for the gateway from whose answer the kernel hears, too."""
    own = (address.ip for address in facts.survey.snapshot.addresses)
    return any(not address.is_link_local and address not in _UNIQUE_LOCAL for address in own)


def _capabilities(facts: Facts) -> Finding:
    name = "capabilities"
    whose, held = next(
        ((f"{each.name} (pid {each.pid})", each.capabilities) for each in facts.responders if each.is_ours),
        ("this process", facts.capabilities),
    )
    if "CAP_NET_RAW" not in held:
        mend = ("run as root, or grant it (systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)",)
        return Finding(name, Level.FAIL, f"{whose} has no CAP_NET_RAW: nothing can be heard or answered", mend)
    if _has_global(facts):
        return Finding(name, Level.PASS, f"{whose} has CAP_NET_RAW")
    if "CAP_NET_ADMIN" in held:
        return Finding(name, Level.PASS, f"{whose} has CAP_NET_RAW and CAP_NET_ADMIN")
    message = f"{facts.ifname} has no global address, and {whose} has no CAP_NET_ADMIN: "
    message += "where a filter keeps the kernel from its gateway, that cannot be mended"
    in_systemd = "AmbientCapabilities=CAP_NET_ADMIN and CapabilityBoundingSet=CAP_NET_ADMIN"
    mend = (f"grant it (systemd: {in_systemd}; Docker: --cap-add NET_ADMIN)",)
    return Finding(name, Level.WARN, message, mend)


# What was heard


def _delivery(facts: Facts, heard: Heard, pinged: IPv6Address | None) -> Finding:
    # The router can know an address that was named by itself.
    fresh = None if any(pinged == prefix.network_address for prefix in facts.prefixes) else pinged
    conclusion = conclude(heard, fresh, answering=bool(facts.responders or facts.proxied))
    level = Level.FAIL
    mend: tuple[str, ...] = (f"ndpresponder -i {facts.ifname} {_needed(facts)}",)
    ping = (f"ping -6 {pinged}  # from elsewhere, while this listens",) if pinged else ()
    match conclusion:
        case Conclusion.NOTHING:
            level, mend = Level.WARN, ping
            message = "nothing came: nobody sent anything, or the provider does not bring it here"
        case Conclusion.UNCLEAR:
            level, mend = Level.WARN, ping
            message = "packets came, and no question; but the router may have asked before: ping an unused address"
        case Conclusion.ROUTED:
            message = f"routed: packets for {some(facts.prefixes)} come without a question, no responder is needed"
            mend = _routes_to_add(facts, [prefix for prefix in facts.prefixes if not inward(facts, prefix)])
            if mend:
                message += "; a route inward is"
            else:
                level = Level.PASS
        case Conclusion.ANSWERED:
            level, mend = Level.PASS, ()
            answered = heard.those(lambda about: about.asked and about.answered)
            message = f"on-link: {_askers(facts, heard)}, this host answers for {some(answered)}, and is heard"
        case Conclusion.FILTERED:
            message = f"on-link: {_askers(facts, heard)}, and asks again when it is answered: the answers do not arrive"
            if any(about.from_elsewhere for about in heard.about.values()):
                message += ", for they come from another address than the target's"
            else:
                mend = ("ask the provider to let this server use the prefix",)
        case Conclusion.ON_LINK:
            asked = heard.those(lambda about: about.asked)
            message = f"on-link: {_askers(facts, heard)}, and nothing here answers for {some(asked)}"
    return Finding("delivery", level, message, mend, conclusion)


def _askers(facts: Facts, heard: Heard) -> str:
    gateways = facts.survey.snapshot.gateways
    macs = {each.link_address for each in facts.neighbors if each.address in gateways}
    by_router = [asker for asker, mac in heard.askers.items() if asker in gateways or mac in macs]
    askers = by_router or list(heard.askers)
    named = f"{'the router' if by_router else 'somebody'} asks from {some(askers)}"
    if any(asker.is_link_local for asker in askers):
        named += " (link-local: ndppd's answers would not pass a provider's filter)"
    return named


def _needed(facts: Facts) -> str:
    """What to answer for: what was named; else what lives behind this host."""
    parts = facts.prefixes if facts.named else tuple(route.prefix for route in _all_inward(facts))
    words = [f"-n {part}" for part in parts[:_MOST_NAMED]] or ["-n PART"]
    return " ".join(words) + (" -n …" if len(parts) > _MOST_NAMED else "")


def _snooping(heard: Heard) -> Finding:
    name = "snooping"
    multicast = sum(about.multicast for about in heard.about.values())
    unicast = sum(about.unicast for about in heard.about.values())
    if unicast and not multicast:
        message = f"solicitations: {unicast} by unicast, none by multicast; does a switch snoop on MLD?"
        mend = ("ndpresponder --multicast mrd …  # if addresses that are new cannot be reached",)
        return Finding(name, Level.WARN, message, mend)
    return Finding(name, Level.PASS, f"solicitations: {multicast} by multicast, {unicast} by unicast")


def _conflicts(facts: Facts, heard: Heard) -> Finding:
    name, gateways = "conflicts", facts.survey.snapshot.gateways
    # A router that keeps its guests apart answers for all of them.
    routers = {each.link_address for each in facts.neighbors if each.address in gateways}
    known = {
        each.address: each.link_address
        for each in facts.neighbors
        if each.link_address and heard.is_meant(int(each.address))
    }
    claims = known | {IPv6Address(address): mac for address, mac in heard.claims.items()}
    others = {address: mac for address, mac in sorted(claims.items()) if mac not in routers}
    if not others:
        return Finding(name, Level.PASS, "nobody else on the link was heard to answer")
    named = [f"{address} ({mac.hex(':')})" for address, mac in others.items() if mac]
    message = f"somebody else answers for {some(named)}"
    if not facts.named:
        return Finding(name, Level.WARN, message, ("answer only for the part that is yours",))
    excluded = " ".join(f"-x {address}" for address in list(others)[:_MOST_NAMED])
    return Finding(name, Level.FAIL, message, (f"ndpresponder … {excluded}  # or take it from that host",))


_Check = Callable[[Facts], Finding]
_OF_HOST: tuple[_Check, ...] = (
    _interface,
    _prefix,
    _forwarding,
    _accept_ra,
    _route_inward,
    _nonlocal_bind,
    _assigned,
    _forward_policy,
    _responders,
    _gateway,
    _neighbor_table,
    _capabilities,
)
_OF_ADDRESS: tuple[_Check, ...] = (_interface, _forwarding, _route_inward, _assigned, _forward_policy, _gateway)
