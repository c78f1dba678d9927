"""Answers "do I need this here, and why does it not work?": listens on the uplink, reads the host, says what it found.

Nothing is changed. Of its own it sends the report for one multicast group, that of the address to ping, and a few
solicitations, to hear whether somebody else on the link answers.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from enum import Enum
from errno import ENETDOWN
from ipaddress import IPv6Address, IPv6Network
from itertools import chain
from math import ceil
from signal import SIGINT, default_int_handler, signal
from socket import if_nameindex

from . import checks, docker, host, netlink
from .addresses import AddressSet, Rule
from .checks import Finding, Level
from .config import STATIC
from .filter import traffic_of
from .hearing import Heard
from .link import PATIENCE, Link, NotEthernetError, is_up
from .log import some
from .multicast import Memberships
from .packet import solicit
from .station import interfaces
from .uplink import refusals_of

_MOST_QUESTIONS = 16
"""How many addresses are asked for whether somebody else has them: a scan of the prefix is not passed on."""
_MOST_INSTRUCTIONS = 512
"""Of the filter: within the smallest net.core.optmem_max, 20480, however many prefixes there are."""
_DRAWS = 64
"""How often an address to ping is drawn anew because the one drawn is in use."""


class Exit(Enum):
    """How it ends, where it can look: an exit status."""

    HEALTHY = 0
    PROBLEM = 3


class DoctorError(Exception):
    """It cannot look. The message is one line that names the thing and the way out."""


class Text:
    """Writes for people: a line for each finding, and below it what mends it."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._left: int | None = None

    def listening(self, survey: netlink.Survey, pinged: IPv6Address | None, seconds: int) -> None:
        """Say what is listened for."""
        prefixes = some(survey.prefixes)
        print(f"listening on {survey.snapshot.ifname} for {seconds} s, for {prefixes}", flush=True)  # noqa: T201 - output
        if pinged:
            print(f"now, from elsewhere: ping -6 {pinged}", flush=True)  # noqa: T201 - output

    def left(self, seconds: float) -> None:
        """Count down, where somebody watches."""
        left = ceil(seconds)
        if self._terminal and left != self._left:
            sys.stdout.write(f"\r\033[K{left} s left (Ctrl-C: enough)" if left else "\r\033[K")
            sys.stdout.flush()
        self._left = left

    def finding(self, finding: Finding) -> None:
        """Write a finding."""
        lines = [f"{finding.level.value:4}  {finding.check:14}  {finding.message}"]
        lines += (f"{'':22}> {each}" for each in finding.mend)
        print("\n".join(lines), flush=True)  # noqa: T201 - output


class Json:
    """Writes for programs: a JSON object for each finding, on a line."""

    def listening(self, survey: netlink.Survey, pinged: IPv6Address | None, seconds: int) -> None:
        """Say what is listened for."""
        self._write(
            kind="listening",
            interface=survey.snapshot.ifname,
            prefixes=list(map(str, survey.prefixes)),
            ping=pinged and str(pinged),
            seconds=seconds,
        )

    def left(self, _: float) -> None:
        """Say nothing."""

    def finding(self, finding: Finding) -> None:
        """Write a finding."""
        more = {"conclusion": finding.conclusion.value} if finding.conclusion else {}
        level, mend = finding.level.value, list(finding.mend)
        self._write(kind="finding", check=finding.check, level=level, message=finding.message, mend=mend, **more)

    def _write(self, **fields: object) -> None:
        print(json.dumps(fields), flush=True)  # noqa: T201 - output


def run(
    ifname: str, prefixes: Iterable[IPv6Network], networks: Sequence[str], seconds: int, report: Text | Json
) -> Exit:
    """Examine an interface, with or without prefixes and Docker networks that were named. Raises DoctorError."""
    if ifname != netlink.AUTO and ifname not in {name for _, name in if_nameindex()}:
        raise DoctorError(f"{ifname}: no such interface; there are: {interfaces()}")
    described = _describe(networks)
    subnets = (subnet for network in described for subnet in network.subnets or ())
    named = list(dict.fromkeys([*prefixes, *subnets]))
    try:
        survey = asyncio.run(netlink.survey(ifname, named))
    except netlink.NetlinkError as error:
        raise DoctorError(f"{ifname}: {error}") from error
    if not survey.prefixes:
        # The kernel has taken its addresses away with it: addrconf_ifdown() of Linux.
        if not is_up(survey.snapshot.ifname):
            raise DoctorError(f"{survey.snapshot.ifname} is down: ip link set {survey.snapshot.ifname} up")
        raise DoctorError(f"{survey.snapshot.ifname} has no on-link prefix: name what to look for with -n")
    return tell(chain(_findings(survey, seconds, report, named=bool(named)), checks.of_networks(described)), report)


def tell(findings: Iterable[Finding], report: Text | Json) -> Exit:
    """Write findings, each as soon as there is one, and return what they come to."""
    ended = Exit.HEALTHY
    for finding in findings:
        report.finding(finding)
        if finding.level is Level.FAIL:
            ended = Exit.PROBLEM
    return ended


def _describe(networks: Sequence[str]) -> list[docker.Described]:
    if not networks:
        return []
    try:
        return docker.describe(networks)
    except docker.EngineError as error:
        raise DoctorError(f"Docker networks cannot be looked at: {error}") from error


def _findings(survey: netlink.Survey, seconds: int, report: Text | Json, *, named: bool) -> Iterator[Finding]:
    ifname, heard = survey.snapshot.ifname, None
    deaf: Finding | None = None
    try:
        pinged = unused(survey, host.inhabited())
        try:
            heard = _listen(survey, pinged, seconds, report) if seconds else None
        except PermissionError:
            deaf = Finding(
                "listening", Level.WARN, "nothing was heard: that takes CAP_NET_RAW", ("look again as root",)
            )
        except OSError as error:
            if error.errno != ENETDOWN:
                raise
            deaf = Finding("listening", Level.WARN, f"nothing was heard: {ifname} is down, or was")
        facts = host.read(survey, named=named)
    except NotEthernetError as error:
        raise DoctorError(f"{ifname} is not an Ethernet interface: nobody solicits neighbors there") from error
    except OSError as error:
        raise DoctorError(f"{ifname}: {error.strerror}") from error
    if heard is not None:
        yield from checks.of_link(facts, heard, pinged)
    if deaf:
        yield deaf
    yield from checks.of_host(facts)


def _addresses(survey: netlink.Survey) -> AddressSet:
    """What of the prefixes the uplink and its gateways do not hold themselves."""
    return AddressSet([*(Rule(prefix, STATIC) for prefix in survey.prefixes), *refusals_of(survey.snapshot)])


def unused(survey: netlink.Survey, inhabited: Collection[IPv6Address]) -> IPv6Address | None:
    """Draw an address for somebody to ping, that neither this host has nor, to its knowledge, anybody behind it."""
    addresses = _addresses(survey)
    held = {address for _, address in survey.held}.union(inhabited)
    for prefix in survey.prefixes:
        for _ in range(_DRAWS):
            drawn = prefix[secrets.randbelow(prefix.num_addresses)]
            # One that is named by itself is the only one there is.
            free = drawn not in held or prefix.num_addresses == 1
            if free and isinstance(addresses.lookup(int(drawn)), Rule):
                return drawn
    return None


class _Questions:
    """Asks whether somebody else on the link answers for an address: each once, and not many."""

    def __init__(self, survey: netlink.Survey, pinged: IPv6Address | None) -> None:
        # A global address first: where the provider has a filter, a link-local one does not pass.
        self._source = min(survey.snapshot.sources, key=lambda address: address.is_link_local, default=None)
        self._asked: set[int] = set()
        self._first = [int(prefix.network_address) for prefix in survey.prefixes if prefix.prefixlen == 128]
        if pinged:
            self._first.insert(0, int(pinged))

    def ask(self, link: Link, mac: bytes, heard: Heard) -> None:
        """Ask for what was not asked for yet."""
        for target in (*self._first, *heard.about):
            if self._source is None or len(self._asked) >= _MOST_QUESTIONS:
                return
            if target not in self._asked and heard.is_meant(target):
                self._asked.add(target)
                # A full queue, an interface that is going down: which receiving tells.
                with suppress(OSError):
                    link.send(solicit(mac, self._source.packed, target.to_bytes(16)))


def _listen(survey: netlink.Survey, pinged: IPv6Address | None, seconds: int, report: Text | Json) -> Heard:
    with closing(Link(survey.snapshot.ifname, outgoing=True)) as link, closing(Memberships(link.index)) as memberships:
        _, mac = link.identity()
        heard = Heard(_addresses(survey), mac)
        if pinged:
            # A switch that snoops on MLD keeps the solicitation away otherwise. Without IPv6, or room: so it may.
            with suppress(OSError):
                memberships.follow(frozenset({int(pinged) & 0xFFFFFF}))
        link.attach(traffic_of(heard.addresses, _MOST_INSTRUCTIONS).instructions)
        questions = _Questions(survey, pinged)
        end = time.monotonic() + seconds

        def enough(*_: object) -> None:
            nonlocal end
            # What is waiting is still taken. A second time, it is the end of all.
            end = min(end, time.monotonic() + PATIENCE)
            signal(SIGINT, default_int_handler)

        before = signal(SIGINT, enough)
        try:
            report.listening(survey, pinged, seconds)
            while (left := end - time.monotonic()) > 0:
                report.left(left)
                questions.ask(link, mac, heard)
                frame = link.receive()
                if frame is not None:
                    heard.take(frame)
        finally:
            signal(SIGINT, before)
        report.left(0)
    return heard
