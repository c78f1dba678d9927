"""Answers "would this address be answered for, and what else stands in its way?", for `ndpresponder explain`.

A daemon is asked, or a configuration is taken as if there were one; what stands in the way on this host is looked for
here, by those who know: checks.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from errno import ENETDOWN
from ipaddress import IPv6Address, IPv6Network
from socket import if_nameindex
from time import monotonic
from typing import Any

from . import checks, host, netlink
from .addresses import AddressSet
from .checks import Finding, Level
from .client import ask
from .config import Config
from .doctor import DoctorError, Exit, Json, Text, tell
from .log import some
from .state import fate
from .station import interfaces
from .status import counted, duration, narrowed
from .uplink import refusals_of
from .verdict import Verdict

Fate = dict[str, Any]
"""What room state tells about one interface; `file` is the configuration file, if there is one."""

_REFUSED = {
    Verdict.NOT_CONFIGURED: "nothing that is configured has it",
    Verdict.EXCLUDED: "it is excluded",
    Verdict.ANYCAST: "it is the first address of a prefix, which belongs to the routers there",
    Verdict.GATEWAY: "it is the gateway's, which answers for itself",
    Verdict.LINK_LOCAL: "it is link-local: nobody is reachable behind another host by it",
    Verdict.TARGET: "it is nobody's address, but a group, the loopback, or unspecified",
}
_ELSEWHERE = (Verdict.OWN_ADDRESS, Verdict.GATEWAY, Verdict.LINK_LOCAL, Verdict.TARGET)
"""What does not live behind this host, so that nothing on it is in the way."""


def of_daemons(address: IPv6Address, file: str | None, ifname: str | None, warn: Callable[[str], object]) -> list[Fate]:
    """Ask the daemons of this host, as ask() does; none may be left for a file or a name."""
    replies = narrowed(ask("explain", warn, address=str(address)), file, ifname)
    return [{"file": reply["file"], **interface} for reply in replies for interface in reply["interfaces"]]


def of_configuration(address: IPv6Address, config: Config, file: str | None) -> Iterator[Fate]:
    """Tell what a daemon with this configuration would do, on this host."""
    for interface in config.interfaces:
        entries = set(interface.entries)
        ifname = interface.ifname
        # Without netlink, or the interface: what is told is right but for what they hold.
        with suppress(netlink.NetlinkError):
            snapshot = asyncio.run(netlink.snapshot(ifname))
            ifname = snapshot.ifname
            entries |= refusals_of(snapshot)
        yield {
            "file": file,
            "state": "configured",
            "ifname": ifname,
            "networks": interface.docker_networks,
            **fate(interface, AddressSet(entries), address, monotonic()),
        }


def run(address: IPv6Address, fates: Iterable[Fate], report: Text | Json) -> Exit:
    """Say what becomes of an address. Raises DoctorError when this host cannot be looked at."""
    return tell(
        (finding for each in telling(fates) for finding in (answer_of(address, each), *_in_the_way(address, each))),
        report,
    )


def telling(fates: Iterable[Fate]) -> list[Fate]:
    """Return what is worth telling of several interfaces: those that answer; else those that have a reason not to."""
    fates = list(fates)
    return (
        [each for each in fates if each["answered"]]
        or [each for each in fates if each["verdict"] != Verdict.NOT_CONFIGURED]
        or fates
    )


def answer_of(address: IPv6Address, each: Fate) -> Finding:
    """Tell whether an interface answers for an address, and by what; or why not."""
    name, by = each.get("ifname") or each["interface"], each["by"]
    if not each["answered"]:
        return _refusal_of(address, each, name)
    flags = each["flags"]
    unlike = [flag for flag in flags["multicast"] if flag not in flags["unicast"]]
    how = f"by {by['prefix']} ({by['source']}), flags: {_words(flags['multicast'])}"
    if unlike:
        how += f" ({_words(unlike)} by multicast alone)"
    if each["state"] == "waiting":
        reason = f": {each['reason']}" if each["reason"] else ""
        message = f"{name} would answer for it, {how}; but it is waited for{reason}"
        return Finding("answer", Level.FAIL, message, (_brought_up(each, name),))
    if each["state"] == "configured":
        return Finding("answer", Level.PASS, f"{name} would answer for it, {how}; no daemon was asked")
    used = (
        f"{counted(by['answered'], 'answer')} so far, the last {duration(by['last'])} ago"
        if by["answered"]
        else "none so far"
    )
    return Finding("answer", Level.PASS, f"{name} answers for it, {how}: {used}")


def _brought_up(each: Fate, name: str) -> str:
    """What helps with an interface that is waited for."""
    if each["reason"] == os.strerror(ENETDOWN):
        return f"ip link set {name} up"
    if each["file"]:
        reload = f"ndpresponder reload -c {each['file']}"
        return f"ifname in {each['file']} can be one of these: {interfaces()}; then: {reload}"
    return f"ndpresponder -i NAME …  # there are: {interfaces()}"


def _refusal_of(address: IPv6Address, each: Fate, name: str) -> Finding:
    verdict, by, file = Verdict(each["verdict"]), each["by"], each["file"]
    if verdict is Verdict.OWN_ADDRESS:
        message = f"it is an address of {name} itself, whose kernel answers: nothing is needed. "
        message += f"If it shall live behind this host instead, take it from {name}"
        return Finding("answer", Level.PASS, message)
    message = f"{name} does not answer for it: {_REFUSED.get(verdict, verdict)}"
    message += f" ({by['prefix']})" if by else ""
    mend: tuple[str, ...] = ()
    reload = f"in {file}, then: ndpresponder reload -c {file}"
    if verdict is Verdict.EXCLUDED and by:
        mend = (f"take {by['prefix']} out of exclude {reload}" if file else f"start it without -x {by['prefix']}",)
    elif verdict in (Verdict.NOT_CONFIGURED, Verdict.ANYCAST):
        mend = (f'add "{address}" to subnet {reload}' if file else f"ndpresponder -i {name} -n {address} …",)
    if networks := each.get("networks"):
        message += f"; only a daemon knows which addresses containers have on {some(networks)}"
    return Finding("answer", Level.FAIL, message, mend)


def _words(flags: list[str]) -> str:
    return ", ".join(flag.capitalize() for flag in flags)


def _in_the_way(address: IPv6Address, each: Fate) -> Iterator[Finding]:
    """Check what else there is between the router and whoever has the address."""
    ifname = each.get("ifname")
    if ifname is None or each.get("verdict") in _ELSEWHERE:
        return
    if ifname not in {name for _, name in if_nameindex()}:
        if each["state"] == "answering":
            message = (
                f"there is no {ifname} here: what is in the way shows in the network namespace of the daemon alone"
            )
            yield Finding("interface", Level.WARN, message)
        else:
            yield Finding("interface", Level.FAIL, f"there is no {ifname}; there are: {interfaces()}")
        return
    try:
        survey = asyncio.run(netlink.survey(ifname, [IPv6Network(address)]))
        facts = host.read(survey, named=True)
    except netlink.NetlinkError as error:
        raise DoctorError(f"{ifname}: {error}") from error
    except OSError as error:
        raise DoctorError(f"{ifname}: {error.strerror}") from error
    yield from checks.of_address(facts, address)
