"""What a daemon is at, as one JSON document: for `ndpresponder status` and `explain`, for programs, for metrics.

Plain functions of values. Times in the document are seconds up to now, for clocks are of one host and of one boot.
What there can be of it is bounded by the configuration and the number of verdicts, never by what the network sends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Any, NamedTuple

from .addresses import AddressSet, Refusal, Rule, Uses
from .config import Interface
from .containers import State, source_of
from .gateway import Gateway
from .packet import FLAG_OVERRIDE, FLAG_ROUTER, FLAG_SOLICITED, solicit
from .policy import Policy
from .responder import Tally, answer
from .uplink import Condition
from .verdict import Verdict

# Of a solicitation that nobody sends; any will do.
_MAC, _ASKER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
_ASKERS = IPv6Address("fe80::1"), IPv6Address("fe80::2")
_FLAGS_AT = 58  # of the Ethernet frame: RFC 4861 section 4.4
_FLAGS = {"router": FLAG_ROUTER, "solicited": FLAG_SOLICITED, "override": FLAG_OVERRIDE}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watched:
    """One interface of the configuration. `uses` tells what was answered for a prefix or by the rules of a source.

    `condition` is None while the interface is waited for, because of `obstacle`, where that is known. `addresses` are
    answered for there.
    """

    config: Interface
    condition: Condition | None
    obstacle: str
    addresses: AddressSet
    tally: Tally
    uses: Callable[[IPv6Network | str], Uses]


def interface(watched: Watched, containers: State, now: float) -> Document:
    """Describe an interface; `now` is the monotonic clock's time."""
    config, condition, tally = watched.config, watched.condition, watched.tally

    def used(origin: IPv6Network | str) -> Document:
        return _used(watched.uses(origin), now)

    return {
        "interface": config.ifname,
        **presence(watched),
        **(_answering(condition, now) if condition else {}),
        "multicast": config.multicast.value,
        "prefixes": [{"prefix": str(prefix), **used(prefix)} for prefix in dict.fromkeys(config.prefixes)],
        "excluded": [str(entry.prefix) for entry in config.entries if isinstance(entry, Refusal)],
        "networks": [
            {"network": name, "addresses": _held(containers, name), **used(source_of(name))}
            for name in config.docker_networks
        ],
        "answered": tally.answered,
        "answered_multicast": tally.multicast,
        "refused": {str(verdict): count for verdict, count in tally.refused.copy().most_common()},
        "unsent": dict(tally.unsent.copy().most_common()),
        "dropped": tally.dropped,
    }


class Outcome(NamedTuple):
    """What came of reading the configuration again: `text` has what changed, or why nothing did.

    `at` is when, by the monotonic clock.
    """

    reloaded: bool
    text: str
    at: float


def daemon(
    interfaces: Iterable[Document], containers: State, file: str | None, uptime: float, reload: Document | None
) -> Document:
    """Describe a daemon; `file` is the configuration file, if there is one, and `reload` its last outcome."""
    return {
        "file": file,
        "uptime": round(uptime, 3),
        "engine": containers.obstacle,
        "reload": reload,
        "interfaces": list(interfaces),
    }


def reload(outcome: Outcome, now: float) -> Document:
    """Describe what came of a reload."""
    return {"reloaded": outcome.reloaded, "text": outcome.text, "ago": round(now - outcome.at, 3)}


def presence(watched: Watched) -> Document:
    """Tell whether an interface answers, under which name, or why it is waited for."""
    if watched.condition:
        return {"state": "answering", "ifname": watched.condition.ifname}
    return {"state": "waiting", "reason": watched.obstacle or None}


def fate(config: Interface, addresses: AddressSet, address: IPv6Address, now: float) -> Document:
    """Tell whether `address` is answered for with this configuration and these addresses, by which rule and how.

    Nobody here knows that better than what answers.
    """
    policy = Policy(_MAC, config.router, config.override)
    asker = next(each for each in _ASKERS if each != address)
    replies = {
        kind: answer(solicit(_ASKER_MAC, asker.packed, address.packed, to), addresses, policy)
        for kind, to in (("multicast", None), ("unicast", _MAC))
    }
    reply = replies["multicast"]
    document: Document = {"interface": config.ifname, "answered": isinstance(reply, tuple)}
    if not isinstance(reply, tuple):
        return document | {"verdict": str(reply), "by": _refused_by(config, reply, address)}
    _, rule = reply
    return document | {
        "by": {"prefix": str(rule.prefix), "source": rule.source, **_used(rule.uses, now)},
        "flags": {kind: _flags_of(reply[0]) for kind, reply in replies.items() if isinstance(reply, tuple)},
    }


def _refused_by(config: Interface, verdict: Verdict, address: IPv6Address) -> Document | None:
    """Name the prefix of the configuration because of which an address is refused, if there is one."""
    kind = {Verdict.EXCLUDED: Refusal, Verdict.ANYCAST: Rule}.get(verdict)
    prefixes = [entry.prefix for entry in config.entries if isinstance(entry, kind or ()) and address in entry.prefix]
    return {"prefix": str(max(prefixes, key=lambda prefix: prefix.prefixlen))} if prefixes else None


def _flags_of(advertisement: bytes) -> list[str]:
    return [name for name, flag in _FLAGS.items() if advertisement[_FLAGS_AT] & flag]


def _answering(condition: Condition, now: float) -> Document:
    return {
        "mac": condition.mac.hex(":"),
        "carrier": condition.carrier,
        "since": _ago(condition.since, now),
        "engine": {"kind": "packet socket", "instructions": condition.instructions, "exact": condition.exact},
        "groups": condition.groups,
        "conflicts": condition.conflicts,
        "gateways": [_gateway(address, gateway) for address, gateway in condition.gateways],
    }


def _gateway(address: IPv6Address, gateway: Gateway | None) -> Document:
    if gateway is None:
        state = "unwatched"
    elif gateway.fixed:
        state = "fixed"
    elif gateway.silent:
        state = "silent"
    else:
        state = "kept" if gateway.kept else "kernel"
    mac = gateway.link_address if gateway else None
    return {"address": str(address), "state": state, "mac": mac.hex(":") if mac else None}


def _held(containers: State, name: str) -> int | None:
    """Count what containers hold on a network; None for one that there is not."""
    network = containers.networks.get(name)
    return len(network.held.addresses) if network and network.held else None


def _used(uses: Uses, now: float) -> Document:
    return {"answered": uses.answered, "last": _ago(uses.last, now)}


def _ago(then: float, now: float) -> float | None:
    return round(now - then, 3) if then else None
