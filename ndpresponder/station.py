"""One interface of the configuration: waits for it, and answers on it, however often it goes and comes.

What is kept here outlives the interface: what to answer for there, and the counts.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from ipaddress import IPv6Network
from socket import if_nameindex
from typing import NoReturn

from . import log, netlink
from .addresses import AddressBook, AddressSet, Refusal, Rule, Uses
from .config import STATIC, ConfigError, Interface, Multicast
from .containers import DOCKER, State, rules, source_of
from .link import Link, NotEthernetError
from .responder import Tally, deaf_minutes
from .uplink import Condition, News, Shared, Uplink, rest_after, wait

_RETRY = 0.5
"""Seconds between two looks at whether a missing interface is back."""
_RETRY_AUTO = 30.0
"""The same for a default route, which costs a snapshot. It is told of at once, but a snapshot can fail."""
_PAUSE = 0.2
"""Seconds between losing a link and opening one."""
_DEAF = 3
"""After how many minutes with solicitations, but none by multicast, that is worth a warning."""
_JOIN_OR_POSE = "try --multicast auto for addresses and small prefixes, --multicast mrd for wide ones"
_REMEDIES = {
    Multicast.AUTO: "try --multicast mrd",
    Multicast.ALLMULTI: _JOIN_OR_POSE,
    Multicast.JOIN: "try --multicast mrd",
    Multicast.MRD: "and it drops what --multicast mrd sends: ask those who run it",
}


class DaemonError(Exception):
    """The daemon cannot go on. The message is one line that names the thing and the way out."""


class _ObstacleError(Exception):
    """There is no link to be had of an interface, as long as this is so."""

    def __init__(self, ifname: str, reason: str) -> None:
        super().__init__(f"{ifname}: {reason}")
        self.reason = reason


class Counts:
    """What is counted for an interface of the configuration, also when a reload takes that away and brings it back.

    `former` has, by the sources of rules, what those were answered by that are no more.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.former: dict[str, Uses] = {}


class Station:
    """Answers as `config` says, while serve() runs.

    `counts` is where it counts. `state` is what it is at, in words; `told` is called when it changes. `obstacle`
    is why there is no link, if that is known.
    """

    def __init__(self, config: Interface, counts: Counts, shared: Shared, told: Callable[[], None]) -> None:
        self.config = config
        self.tally = counts.tally
        self.state = ""
        self.obstacle = ""
        self._shared = shared
        self._told = told
        self._former = counts.former
        self._uses: dict[IPv6Network | str, Uses] = {}
        self._book = AddressBook()
        self._publish(STATIC, config.entries)
        self._news = News()
        self._link: Link | None = None
        self._uplink: Uplink | None = None
        self._turns: tuple[Uplink | None, int] = None, 0
        self._last_minute = self.tally.copy()
        self._deaf = 0

    async def prepare(self) -> None:
        """Open the link, if the interface is there.

        Raises DaemonError if that is wanted at once, or hopeless, ConfigError if there never will be one.
        """
        try:
            self._link = await self._attempt()
        except _ObstacleError as obstacle:
            self._check_patience(obstacle)

    def abandon(self) -> None:
        """Take back what was prepared."""
        if self._link:
            self._link.close()
            self._link = None

    async def serve(self) -> NoReturn:
        """Answer until cancelled. Raises DaemonError when that is impossible, ConfigError when it will stay so."""
        while True:
            with closing(self._link or await self._open()) as link:
                self._link = None
                self._uplink = Uplink(link, self.config, self._book, self.tally, self._news, self._shared)
                ifname, _ = link.identity()
                try:
                    self._uplink.start()
                    self.obstacle = ""
                    self._become(self._answering(ifname))
                    await self._uplink.run()
                except OSError as error:
                    self._wait_for(_ObstacleError(ifname, error.strerror or str(error)))
                finally:
                    self._uplink = None
            # However often it is lost: this is no busy loop.
            await asyncio.sleep(_PAUSE)

    def reconfigure(self, config: Interface, containers: State) -> None:
        """Do as this says from now on."""
        self.config = config
        self._publish(STATIC, config.entries)
        self._publish(DOCKER, rules(containers, config.docker_networks))
        if self._uplink:
            self._uplink.reconfigure(config)
            self.state = self._answering(self._uplink.condition().ifname)
        # What is no longer answered for is no longer counted either, or reloads could make this grow.
        self.retire({*config.prefixes, *map(source_of, config.docker_networks)})
        # Whether to go on waiting may have changed.
        self._news.link.set()
        self._news.uplink.set()

    def follow_containers(self, containers: State) -> None:
        """Answer for what containers hold now."""
        if self._publish(DOCKER, rules(containers, self.config.docker_networks)) and self._uplink:
            self._uplink.update()

    def _publish(self, source: str, entries: Iterable[Rule | Refusal]) -> bool:
        """Replace a page of the book, with rules that go on counting where those before them have stopped."""
        return self._book.publish(source, map(self._counted, entries))

    def _counted(self, entry: Rule | Refusal) -> Rule | Refusal:
        if isinstance(entry, Refusal):
            return entry
        # By what the operator wrote: containers come and go, and their number is not bounded by anything.
        origin = entry.prefix if entry.source == STATIC else entry.source
        return Rule(entry.prefix, entry.source, entry.lives_here, self._uses.setdefault(origin, Uses()))

    @property
    def addresses(self) -> AddressSet:
        """What is answered for, and what is not, as it is now."""
        return self._book.addresses

    def uses(self, origin: IPv6Network | str) -> Uses:
        """Return what was answered for a prefix of the configuration, or by rules of a source."""
        return self._uses.get(origin) or Uses()

    def condition(self) -> Condition | None:
        """Return what the interface is at, its drops counted up to now; None while it is waited for."""
        if self._uplink is None:
            return None
        self._uplink.count_drops()
        return self._uplink.condition()

    def heed(self, changed: netlink.Changed) -> None:
        """Look at what has changed around the interface, if that matters here."""
        if changed.link:
            self._news.link.set()
        if changed.concerns(self._news.index):
            self._news.uplink.set()

    def set_verbose(self) -> None:
        """Log what the level that has been set asks for."""
        if self._uplink:
            self._uplink.set_verbose()

    def is_alive(self) -> bool:
        """Whether frames have been looked for since the last call, or there is no link to look at."""
        before, self._turns = self._turns, (self._uplink, self._uplink.turns if self._uplink else 0)
        return self._uplink is None or self._turns != before

    def uses_by_source(self) -> dict[str, Uses]:
        """Return what was answered by the rules of each source of the configuration, since the start of the process."""
        named = [*([STATIC] if self.config.prefixes else []), *map(source_of, self.config.docker_networks)]
        uses = {source: self._former.get(source, Uses()) for source in named}
        for origin, more in self._uses.items():
            source = _source(origin)
            uses[source] = _sum(uses.get(source, Uses()), more)
        return uses

    def retire(self, kept: Collection[IPv6Network | str] = ()) -> None:
        """Count no longer for what is not kept: prefixes of the configuration, and sources of other rules."""
        for origin in self._uses.keys() - kept:
            source = _source(origin)
            self._former[source] = _sum(self._former.get(source, Uses()), self._uses.pop(origin))

    def summarize(self) -> bool:
        """Say what has happened in the minute since the last time. Returns whether anything has."""
        if self._uplink is not None:
            self._uplink.count_drops()
        before, now = self._last_minute, self.tally.copy()
        news, ifname = now.since(before), self.config.ifname
        if now != before:
            log.info("summary", f"last minute on {ifname}: {news}", interface=ifname, **news.as_dict())
        deaf_before, self._deaf = self._deaf, deaf_minutes(self._deaf, news, now)
        if deaf_before < _DEAF <= self._deaf:
            self._warn_of_deafness()
        self._last_minute = now
        return now != before

    def _warn_of_deafness(self) -> None:
        """Say that multicast does not arrive."""
        multicast = self.config.multicast
        log.warning(
            "deaf",
            f"{_DEAF} minutes with solicitations on {self.config.ifname}, and none by multicast: most likely a switch "
            "that snoops on MLD keeps them away, and addresses that are new to the router are not reachable; "
            f"{_REMEDIES[multicast]}",
            interface=self.config.ifname,
            multicast=multicast.value,
        )

    async def _attempt(self) -> Link:
        """Open the link now.

        Raises _ObstacleError when that may be possible later, DaemonError when it is hopeless, ConfigError when nothing
        but naming another interface helps.
        """
        ifname = self.config.ifname
        try:
            if ifname == netlink.AUTO:
                async with self._shared.looking:
                    ifname = (await netlink.snapshot(ifname)).ifname
            return Link(ifname, allmulti=self.config.multicast.allmulti)
        except PermissionError as error:
            raise DaemonError(
                "no permission to open a packet socket: run as root, or grant CAP_NET_RAW "
                "(systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)"
            ) from error
        except NotEthernetError as error:
            reason = "not an Ethernet interface: nobody solicits neighbors there"
            # The name of an interface that was answered on can be another's for a while.
            if self.config.ifname != netlink.AUTO and not self._news.index:
                raise ConfigError(
                    f"{ifname} is {reason}; name the uplink with -i, or the key ifname ({_there_are()})"
                ) from error
            raise _ObstacleError(ifname, reason) from error
        except OSError as error:
            raise _ObstacleError(ifname, error.strerror or str(error)) from error
        except netlink.NetlinkError as error:
            raise _ObstacleError(ifname, str(error)) from error

    async def _open(self) -> Link:
        """Return the link, as soon as the interface is there and up."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                return await self._attempt()
            except _ObstacleError as obstacle:
                self._wait_for(obstacle)
            if self.config.ifname == netlink.AUTO:
                await asyncio.sleep(rest_after(loop.time() - begun))
                await wait(self._news.uplink, _RETRY_AUTO)
            else:
                await wait(self._news.link, _RETRY)

    def _wait_for(self, obstacle: _ObstacleError) -> None:
        """Take note of why there is no answering now, and tell it, once. Raises DaemonError if nobody shall wait."""
        self._check_patience(obstacle)
        if self.obstacle != obstacle.reason:
            self.obstacle = obstacle.reason
            log.warning(
                "waiting",
                f"waiting for {obstacle}; {_there_are()}",
                interface=self.config.ifname,
                reason=obstacle.reason,
            )
            self._become(f"waiting for {obstacle}")

    def _check_patience(self, obstacle: _ObstacleError) -> None:
        if not self.config.wait:
            raise DaemonError(f"{obstacle}; {_there_are()}") from obstacle

    def _answering(self, ifname: str) -> str:
        return f"answering on {ifname} for {log.some(self.config.prefixes)}"

    def _become(self, state: str) -> None:
        self.state = state
        self._told()


def _source(origin: IPv6Network | str) -> str:
    """Return the source of the rules that are counted together."""
    return STATIC if isinstance(origin, IPv6Network) else origin


def _sum(first: Uses, second: Uses) -> Uses:
    return Uses(first.answered + second.answered, max(first.last, second.last))


def interfaces() -> str:
    """Return the names of the interfaces there are, for an error that leaves the choice."""
    return log.some([name for _, name in if_nameindex()])


def _there_are() -> str:
    return f"there are: {interfaces()}"
