"""One interface while it is there: answering on its link, and following what changes around it.

Answers first, and only then looks at what is slow. Frames are answered in a thread of their own, which blocks in the
kernel until the next one: the event loop's turn would cost as much as the answer, and no answer waits for what the loop
is doing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from errno import EAGAIN, ENODEV
from ipaddress import IPv6Address, IPv6Network
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from . import log, netlink
from .addresses import AddressBook, AddressSet, Refusal, Rule
from .announce import Announcer
from .config import FEW_GROUPS, Interface, Multicast
from .containers import source_of
from .filter import Filter
from .gateway import Gateway, Keeper
from .link import Link
from .multicast import ADVERTISEMENT_INTERVAL, Memberships, advertisement_intervals, groups_of
from .packet import build_multicast_router_advertisement, build_multicast_router_termination
from .policy import Policy
from .responder import Responder, Tally
from .verdict import Verdict

if TYPE_CHECKING:
    from .sight import Watch

_SETTLE = 0.2
"""Seconds between a change of addresses or routes and the next snapshot of them, at least."""
_LONGEST_REST = 5.0
"""The same at most, however long the last snapshot took: an address that is new here is answered for until the next."""
_RETRY = 30.0
"""Seconds until a snapshot or a join that failed is tried again."""
_DETECTION = 5.0
"""Seconds that duplicate address detection may take: by the kernel's defaults it takes two at most."""
_UPLINK = "uplink"


@dataclass(slots=True)
class Shared:
    """What the interfaces of a process have in common."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as one of them is answered on: what is slow can begin."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a snapshot is taken: each is a process of 20 MB or more, and one event can make all take one."""
    watches: "list[Watch]" = field(default_factory=list)
    """Who sees what becomes of each frame."""


@dataclass(slots=True)
class News:
    """What has changed and not been looked at yet; `index` is the number of the interface that matters.

    `untold` is whether a glance has changed what is answered for, and no log line has told so yet.
    """

    index: int = 0
    link: asyncio.Event = field(default_factory=asyncio.Event)
    uplink: asyncio.Event = field(default_factory=asyncio.Event)
    untold: bool = False


class Condition(NamedTuple):
    """What an uplink is at. `since` is when answering began, by the monotonic clock; `mac` is 6 octets.

    `instructions` is the length of the filter, `exact` whether it lets nothing pass that is not answered for, `groups`
    how many multicast groups are joined, `conflicts` how many of the addresses that live here another host has, too: 0
    where nothing is announced, since nobody listens then. `gateways` has what is known of each, by its address; None
    where they are left alone, and where nothing is known of the uplink yet.
    """

    ifname: str
    mac: bytes
    since: float
    carrier: bool
    instructions: int
    exact: bool
    groups: int
    conflicts: int
    gateways: tuple[tuple[IPv6Address, Gateway | None], ...]


class Uplink:
    """An interface whose link has been opened.

    `book` has the addresses to answer for; the uplink keeps a page of its own in it, with what it and its gateways hold
    themselves. `news` tells when to look again.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what outlives it is not its own
        self, link: Link, config: Interface, book: AddressBook, tally: Tally, news: News, shared: Shared
    ) -> None:
        self._link = link
        self._config = config
        self._book = book
        self._tally = tally
        self._news = news
        self._shared = shared
        self._ifname, mac = link.identity()
        policy = Policy(mac, config.router, config.override)
        self._responder = Responder(link, policy, tally, shared.watches)
        self._memberships = Memberships(link.index)
        self._keeper = Keeper(self._ifname, link.index) if config.keep_gateway else None
        self._announcer = Announcer(link, policy) if config.announce else None
        # Each under the object whose work it is, or its name.
        self._beside: dict[object, asyncio.Task[NoReturn]] = {}
        self._snapshot: netlink.Snapshot | None = None
        self._since = 0.0
        self._size, self._exact = 0, True
        self._carrier = True
        self._bridge = ""
        self._inside: list[str] = []
        self._covered: set[tuple[IPv6Network, IPv6Network]] = set()
        self._unknown = ""
        self._link_local: bytes | None = None
        self._is_own = asyncio.Event()
        self._not_joined: str | None = None
        self._looked = asyncio.Event()
        self._lost: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

    @property
    def turns(self) -> int:
        """Grows for as long as solicitations are answered, whether there are any or not."""
        return self._responder.turns

    def start(self) -> None:
        """Answer from now on. What follows is run(). Raises OSError when that is impossible now."""
        self._news.index = self._link.index
        self._glance()
        compiled = self._attach()
        self._start_answering()
        self._since = monotonic()
        self._join()
        self._announce(compiled)
        self._shared.answering.set()

    def _glance(self) -> None:
        """Have what the uplink and its gateway hold left to them before the first answer, if that is to be had so soon.

        If it is not, the first snapshot has more to say of the reason.
        """
        with suppress(OSError):
            seen = refusals_of(netlink.glance(self._link.index))
            # An interface that is back gets its addresses and its default route a moment later. Until a snapshot tells
            # otherwise, it and its gateway hold what they did.
            self._news.untold |= self._book.publish(_UPLINK, seen | self._book.page(_UPLINK))

    async def run(self) -> None:
        """Go on until the interface is lost, or is another one; what ended it is in the log."""
        self._adapt()
        try:
            await self._lost
        except OSError as error:
            log.warning("lost", f"lost {self._ifname}: {error.strerror}", interface=self._ifname, reason=error.strerror)
        finally:
            self._responder.stop()
            for task in self._beside.values():
                task.cancel()
            # They may have something to send before they end.
            await asyncio.gather(*self._beside.values(), return_exceptions=True)
            self._memberships.close()
            self.count_drops()

    def reconfigure(self, config: Interface) -> None:
        """Do as this says from now on, and answer for what the book has now; the link goes on without a break."""
        self._config = config
        policy = replace(self._responder.policy, router=config.router, override=config.override)
        if not config.keep_gateway:
            self._keeper = None
        elif self._keeper is None:
            self._keeper = Keeper(self._ifname, self._link.index)
        if not config.announce:
            self._announcer = None
        elif self._announcer is None or policy != self._responder.policy:
            # What is announced has these flags too, and the router does not know them yet.
            self._announcer = Announcer(self._link, policy)
        self._responder.policy = policy
        # Going away: that is told by the link itself.
        with suppress(OSError):
            self._link.receive_all_multicast(wanted=config.multicast.allmulti)
        compiled = self.update()
        self._adapt()
        self._announce(compiled)
        if self._snapshot:
            self._tell_of_owned(self._snapshot)
            self._warn_of_others(self._snapshot)

    def set_verbose(self) -> None:
        """Log what the level that has been set asks for."""
        self._responder.verbose = log.verbose()

    def _adapt(self) -> None:
        """Begin what is to be done beside answering now, and end what no longer is."""
        wanted = dict(self._followers())
        for owner in self._beside.keys() - wanted.keys():
            self._beside.pop(owner).cancel()
        for owner, follow in wanted.items():
            if owner not in self._beside:
                self._beside[owner] = task = asyncio.ensure_future(follow())
                task.add_done_callback(self._lose_by)

    def _followers(self) -> Iterator[tuple[object, Callable[[], Coroutine[None, None, NoReturn]]]]:
        yield "link", self._follow_link
        yield "snapshots", self._follow_snapshots
        if self._keeper:
            yield self._keeper, self._keeper.run
        if self._announcer:
            yield self._announcer, self._announcer.run
        if self._config.multicast is Multicast.MRD:
            yield "multicast router", self._pose_as_multicast_router

    def _lose_by(self, task: "asyncio.Task[NoReturn]") -> None:
        """Each of them ends only by an error, and so does this uplink."""
        if not task.cancelled() and (error := task.exception()):
            self._lose(error)

    def _lose(self, error: BaseException) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)

    def count_drops(self) -> None:
        """Bring the count of what the kernel dropped up to date."""
        self._tally.dropped += self._link.drops()

    def _start_answering(self) -> None:
        """Answer in a thread of its own, until it is stopped or ends by an error. Raises OSError if there is none."""
        loop = asyncio.get_running_loop()

        def answer() -> None:
            try:
                self._responder.run()
            except Exception as error:  # noqa: BLE001 - it is raised where the future is waited for
                loop.call_soon_threadsafe(self._lose, error)

        try:
            Thread(target=answer, name=f"answering on {self._ifname}", daemon=True).start()
        except RuntimeError as error:
            raise OSError(EAGAIN, f"{error}: too many tasks (systemd: TasksMax; Docker: --pids-limit)") from error

    def _announce(self, compiled: Filter) -> None:
        prefixes, multicast = self._config.prefixes, self._config.multicast
        networks = self._addresses_by_network()
        what = [
            *prefixes,
            *(
                f"Docker network {name} ({count} address{'' if count == 1 else 'es'})"
                for name, count in networks.items()
            ),
        ]
        size, groups = len(compiled.instructions), len(self._memberships)
        mac = self._responder.policy.link_address.hex(":")
        wide = groups_of(self._book.addresses, self._config.few_groups).wide if multicast.joins else ()
        log.info(
            "ready",
            f"answering on {self._ifname} ({mac}) for {log.some(what)}, filter of {size} instructions"
            + ("" if compiled.exact else ", wider than the prefixes: more would not fit")
            + (f", {groups} groups joined" if multicast.joins else "")
            + (f", none of {log.some(wide)}" if wide else ""),
            interface=self._ifname,
            mac=mac,
            prefixes=len(prefixes),
            instructions=size,
            exact=compiled.exact,
            groups=groups,
            **({"networks": networks} if networks else {}),
        )
        if groups > max(FEW_GROUPS, self._config.few_groups):
            log.warning(
                "multicast",
                f"{groups} groups joined on {self._ifname}: the kernel walks through them for each multicast frame; "
                "where no switch snoops on MLD, --multicast allmulti spares it that",
                interface=self._ifname,
                reason="many groups",
            )
        if wide and not multicast.allmulti:
            log.warning(
                "multicast",
                f"with --multicast join, {self._ifname} need not receive multicast solicitations for {log.some(wide)}: "
                f"more than {self._config.few_groups} groups each (--multicast-groups)",
                interface=self._ifname,
                reason="too wide",
            )

    def _addresses_by_network(self) -> dict[str, int]:
        """Count what is answered for on each Docker network."""
        sources = Counter(rule.source for _, _, rule in self._book.addresses.decided())
        return {name: sources[source_of(name)] for name in self._config.docker_networks}

    def update(self) -> Filter:
        """Answer for what the book has now, and return the filter that lets it through."""
        compiled = self._attach()
        self._join()
        self._tell_keeper()
        self._introduce()
        return compiled

    def _attach(self) -> Filter:
        """Have the responder answer for what the book has now."""
        compiled = self._responder.update(self._book.addresses)
        self._size, self._exact = len(compiled.instructions), compiled.exact
        return compiled

    def condition(self) -> Condition:
        """Return what this is at now."""
        known = self._keeper.gateways if self._keeper else {}
        gateways = self._snapshot.gateways if self._snapshot else ()
        return Condition(
            self._ifname,
            self._responder.policy.link_address,
            self._since,
            self._carrier,
            self._size,
            self._exact,
            len(self._memberships),
            self._announcer.conflicts if self._announcer else 0,
            tuple((address, known.get(address)) for address in gateways),
        )

    def _introduce(self) -> None:
        """Announce what has come to live here, once it is known to whom; without netlink, to whoever listens."""
        if self._announcer and self._looked.is_set():
            uplink = self._snapshot or netlink.Snapshot(self._ifname, (), ())
            self._announcer.follow(uplink, self._book.addresses)

    def _tell_keeper(self) -> None:
        """Have the gateways looked after, from what is answered for now."""
        if self._keeper and self._snapshot:
            self._keeper.follow(self._snapshot, self._book.addresses)

    def _join(self) -> None:
        """Be a member of the solicited-node groups of what is answered for now, where that is wanted."""
        obstacle = None
        joins = self._config.multicast.joins
        try:
            self._memberships.follow(
                groups_of(self._book.addresses, self._config.few_groups).joined if joins else frozenset()
            )
        except OSError as error:
            obstacle = error.strerror
        before, self._not_joined = self._not_joined, obstacle
        if obstacle and obstacle != before:
            log.warning(
                "multicast",
                f"cannot join multicast groups on {self._ifname} ({obstacle}): "
                "where a switch snoops on MLD, solicitations will not arrive",
                interface=self._ifname,
                reason=obstacle,
            )
        elif before and not obstacle:
            log.info("multicast", f"the multicast groups on {self._ifname} are joined now", interface=self._ifname)

    async def _follow_link(self) -> NoReturn:
        """Follow the interface's MAC and carrier. Raises OSError when it is another interface now."""
        link, responder, ifname = self._link, self._responder, self._ifname
        carrier = self._carrier = link.has_carrier()
        if not carrier:
            log.info("carrier", f"{ifname} has no carrier", interface=ifname, carrier=carrier)
        while True:
            self._news.link.clear()
            name, mac = link.identity()
            if name != ifname:
                raise OSError(ENODEV, f"it is called {name} now" if name else "it is no more")
            if mac != responder.policy.link_address:
                responder.policy = replace(responder.policy, link_address=mac)
                log.info("mac", f"{ifname} has another MAC: {mac.hex(':')}", interface=ifname, mac=mac.hex(":"))
                self._introduce_again()
            # An interface that is down has none; that it is down is reported by the link itself.
            if link.is_up() and carrier != link.has_carrier():
                carrier = self._carrier = not carrier
                news = "has its carrier back" if carrier else "lost its carrier"
                log.info("carrier", f"{ifname} {news}", interface=ifname, carrier=carrier)
                if carrier:
                    self._introduce_again()
            self._look_for_bridge()
            await self._news.link.wait()

    def _look_for_bridge(self) -> None:
        """Say that nothing arrives on a port of a bridge, which takes all frames before other protocols' sockets."""
        bridge, ifname = self._bridge, self._ifname
        # Without netlink nobody knows; going away: that is told by the link itself.
        with suppress(OSError):
            bridge = netlink.bridge_of(self._link.index)
        if bridge == self._bridge:
            return
        self._bridge = bridge
        if bridge:
            message = f"{ifname} is a port of the bridge {bridge}, which takes its frames: answer on {bridge} instead"
            log.warning("bridge", message, interface=ifname, bridge=bridge)
        else:
            log.info("bridge", f"{ifname} is no port of a bridge any more", interface=ifname, bridge=bridge)

    def _introduce_again(self) -> None:
        """Announce all that lives here, since the router may have asked in vain, or knows another MAC."""
        if self._announcer:
            self._announcer.again()

    async def _follow_snapshots(self) -> NoReturn:
        """Keep to what the uplink and its gateways hold. Raises OSError when the uplink is another interface now."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.uplink.clear()
            # Addresses that have changed can mean that the groups are gone, or can be joined.
            self._join()
            patience = _RETRY if self._not_joined else None
            try:
                async with self._shared.looking:
                    begun = loop.time()
                    snapshot = await netlink.snapshot(self._config.ifname, self._ifname)
            except netlink.NetlinkError as error:
                patience = _RETRY
                if str(error) != self._unknown:
                    self._unknown = str(error)
                    log.warning(
                        "netlink",
                        f"the addresses of {self._ifname} and of its gateway are unknown ({error}); "
                        "exclude with -x those that are inside of a prefix",
                        interface=self._ifname,
                    )
            else:
                self._unknown = ""
                if snapshot.ifname != self._ifname:
                    raise OSError(ENODEV, f"the default route goes through {snapshot.ifname} now")
                self._snapshot = snapshot
                self._link_local = next((each.packed for each in snapshot.sources if each.is_link_local), None)
                if self._link_local:
                    self._is_own.set()
                self._leave_to_their_owners(snapshot)
                self._tell_keeper()
            self._looked.set()
            self._introduce()
            taken = loop.time() - begun
            await wait(self._news.uplink, patience)
            await asyncio.sleep(rest_after(taken))

    def _leave_to_their_owners(self, snapshot: netlink.Snapshot) -> None:
        """Do not answer for what the uplink itself and its gateways hold."""
        changed = self._book.publish(_UPLINK, refusals_of(snapshot))
        if changed:
            self.update()
        if changed or self._news.untold:
            self._news.untold = False
            self._warn_of_others(snapshot)
            self._tell_of_owned(snapshot)

    def _tell_of_owned(self, snapshot: netlink.Snapshot) -> None:
        """Tell what of the prefixes is held by others, if that is new."""
        configured = AddressSet(self._config.entries)
        addresses = (refusal.prefix.network_address for refusal in refusals_of(snapshot))
        inside = sorted(str(address) for address in addresses if isinstance(configured.lookup(int(address)), Rule))
        if inside == self._inside:
            return
        self._inside = inside
        log.info(
            "owned",
            f"not answering for {log.some(inside)}: held by {self._ifname} or its gateway"
            if inside
            else f"{self._ifname} and its gateway hold nothing of the prefixes any more",
            interface=self._ifname,
            addresses=inside,
        )

    def _warn_of_others(self, snapshot: netlink.Snapshot) -> None:
        """Tell what it means to answer for a whole link, once for each."""
        covered = {
            (prefix, on_link)
            for prefix in self._config.prefixes
            for on_link in _on_link(snapshot)
            if on_link.subnet_of(prefix)
        }
        for prefix, on_link in sorted(covered - self._covered):
            log.warning(
                "covers-link",
                f"{prefix} covers all of {on_link}, the on-link prefix of {self._ifname}: no other host "
                "there can take a new address, and a scan can fill the router's neighbor table; "
                "name only the part that is yours",
                interface=self._ifname,
            )
        self._covered = covered

    async def _pose_as_multicast_router(self) -> NoReturn:
        """Have switches forward all multicast here (RFC 4286), until this is cancelled."""
        await self._looked.wait()
        if self._snapshot and self._snapshot.unusable:
            await wait(self._is_own, _DETECTION)
        if self._link_local is None:
            log.warning(
                "multicast",
                f"cannot pose as a multicast router: no link-local address of {self._ifname} is known to be its own",
                interface=self._ifname,
                reason="no link-local address",
            )
        intervals = advertisement_intervals()
        try:
            while True:
                self._send_to_switches(advertised=True)
                await asyncio.sleep(next(intervals))
        finally:
            self._send_to_switches(advertised=False)

    def _send_to_switches(self, *, advertised: bool) -> None:
        mac, source = self._responder.policy.link_address, self._link_local
        if source is None:
            return
        # A full queue, an interface that is going down: the next one is not far.
        with suppress(OSError):
            self._link.send(
                build_multicast_router_advertisement(mac, source, ADVERTISEMENT_INTERVAL)
                if advertised
                else build_multicast_router_termination(mac, source)
            )


def _on_link(snapshot: netlink.Snapshot) -> set[IPv6Network]:
    """The prefixes of the uplink's link; an address alone is none."""
    return {address.network for address in snapshot.addresses if address.network.prefixlen < 128}


def refusals_of(snapshot: netlink.Snapshot) -> set[Refusal]:
    """What the uplink's kernel and its gateways answer for themselves."""
    own = {(address.ip, Verdict.OWN_ADDRESS) for address in snapshot.addresses}
    gateways = {(address, Verdict.GATEWAY) for address in snapshot.gateways}
    # A forwarding kernel answers for the subnet-router anycast address of each on-link prefix.
    anycast = {(on_link.network_address, Verdict.ANYCAST) for on_link in _on_link(snapshot)}
    return {Refusal(IPv6Network(address), verdict) for address, verdict in own | gateways | anycast}


def rest_after(taken: float) -> float:
    """How many seconds to let pass before the next snapshot, after one that has taken so many."""
    # Changes come in groups; and when they do not end, snapshots shall take a sixth of the time, not all of it. One
    # that takes long does so because it was stopped, or hung.
    return min(max(_SETTLE, 5 * taken), _LONGEST_REST)


async def wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, at most so long, and take note of it."""
    # Not asyncio.wait_for(): in Python 3.11, a cancellation that comes together with the event is lost in it.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
