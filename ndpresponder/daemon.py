"""Assembles the rooms, runs them, and stops.

Opens the link, waiting for the interface as long as it takes, and hands it to an Uplink, as often as it is lost.
"""

import asyncio
import signal
import sys
from contextlib import closing, suppress
from socket import if_nameindex
from typing import Any, NoReturn

from . import docker, log, netlink
from .addresses import AddressBook
from .config import STATIC, Config, Multicast
from .link import Link, NotEthernetError
from .responder import Tally, deaf_minutes
from .systemd import ServiceManager
from .uplink import News, Uplink, wait

_RETRY = 0.5
"""Seconds between two looks at whether a missing interface is back."""
_SUMMARY = 60.0
"""Seconds between two summaries."""
_SWITCH_INTERVAL = 0.0005
"""Seconds that an answer waits at most for the interpreter while something else is being computed."""
_RETRY_AUTO = 5.0
"""The same for a default route, which costs a snapshot; where there is netlink, it is told of at once."""
_RETRY_LISTENING = 30.0
"""Seconds until netlink is tried again, if there is none to listen to; and between two looks without it."""
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


async def run(config: Config) -> None:
    """Answer until SIGINT or SIGTERM. Raises DaemonError when that is impossible."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    daemon = _Daemon(config)
    serving = asyncio.ensure_future(daemon.serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    ends: tuple[asyncio.Future[None], ...] = (serving, daemon.failed)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if daemon.failed.done():
        serving.cancel()
        await asyncio.wait([serving])
        daemon.failed.result()
    if not serving.cancelled():
        serving.result()


class _Daemon:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._book = AddressBook()
        self._book.publish(STATIC, config.entries)
        self._tally = Tally()
        self._news = News()
        self._uplink: Uplink | None = None
        self._docker = docker.State()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Has an error as soon as there is no use in going on."""
        self._manager = ServiceManager()
        self._state = "starting"

    async def serve(self) -> None:
        """Answer for ever, however often the interface goes and comes."""
        for remark in self._config.remarks:
            log.warning("remark", remark)
        beside: list[asyncio.Future[Any]]
        beside = [asyncio.ensure_future(each) for each in (self._listen(), self._summarize(), self._show_life())]
        if self._config.docker_networks:
            beside.append(asyncio.ensure_future(self._follow_docker()))
        try:
            while True:
                with closing(await self._open()) as link:
                    self._uplink = Uplink(link, self._config, self._book, self._tally, self._news)
                    self._uplink.start()
                    self._report(f"answering on {link.identity()[0]} for {log.some(self._config.prefixes)}")
                    try:
                        await self._uplink.run()
                    finally:
                        self._uplink = None
                # However often it is lost: this is no busy loop.
                await asyncio.sleep(_PAUSE)
        except asyncio.CancelledError:
            log.info("stopped", f"stopped: {self._tally}", **self._tally.as_dict())
            raise
        finally:
            self._manager.stopping()
            for task in beside:
                task.cancel()

    async def _listen(self) -> NoReturn:
        """Set the events that tell of changes."""
        said = None
        while True:
            try:
                with closing(netlink.Changes()) as changes:
                    while True:
                        self._tell(await changes.wait(self._news.index))
            except OSError as error:
                if said != error.strerror:
                    said = error.strerror
                    log.warning("netlink", f"changes of addresses and gateways are not followed: no netlink ({said})")
            await asyncio.sleep(_RETRY_LISTENING)
            # Nobody knows what has changed in the meantime.
            self._tell(set(netlink.Topic))

    def _tell(self, topics: set[netlink.Topic]) -> None:
        if netlink.Topic.LINK in topics:
            self._news.link.set()
        if netlink.Topic.UPLINK in topics:
            self._news.uplink.set()

    async def _follow_docker(self) -> None:
        """Have the engine watched until cancelled, in a thread, once answering has begun."""
        loop = asyncio.get_running_loop()
        await self._news.answering.wait()

        def hand_over(state: docker.State) -> None:
            # The loop may have ended before the thread.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._heed, state)

        watcher = docker.Watcher(self._config.docker_networks, hand_over, unique_local=self._config.docker_unique_local)
        watcher.start()
        try:
            await asyncio.Event().wait()
        finally:
            watcher.stop()

    def _heed(self, state: docker.State) -> None:
        """Answer for what containers hold now."""
        before, self._docker = self._docker, state
        if self._book.publish(docker.DOCKER, docker.rules(state)) and self._uplink:
            self._uplink.update()
        docker.report(before, state)
        if state.fatal and not self.failed.done():
            self.failed.set_exception(DaemonError(state.fatal))

    async def _open(self) -> Link:
        """Return the link, as soon as the interface is there and up."""
        waiting_for = None
        while True:
            ifname, obstacle = self._config.ifname, ""
            try:
                if ifname == netlink.AUTO:
                    ifname = (await netlink.snapshot(ifname)).ifname
                return Link(ifname, allmulti=self._config.multicast.allmulti)
            except PermissionError as error:
                raise DaemonError(
                    "no permission to open a packet socket: run as root, or grant CAP_NET_RAW "
                    "(systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)"
                ) from error
            except NotEthernetError as error:
                obstacle = "not an Ethernet interface: nobody solicits neighbors there"
                if self._config.ifname != netlink.AUTO:
                    raise DaemonError(f"{ifname} is {obstacle}; name the uplink with -i ({_there_are()})") from error
            except OSError as error:
                obstacle = error.strerror or str(error)
            except netlink.NetlinkError as error:
                obstacle = str(error)
            if not self._config.wait:
                raise DaemonError(f"{ifname}: {obstacle}; {_there_are()}")
            if waiting_for != obstacle:
                waiting_for = obstacle
                log.warning(
                    "waiting",
                    f"waiting for {ifname}: {obstacle}; {_there_are()}",
                    interface=ifname,
                    reason=obstacle,
                )
                self._report(f"waiting for {ifname}: {obstacle}")
            await self._look_again()

    async def _look_again(self) -> None:
        """Wait for something to change that may bring the interface."""
        if self._config.ifname == netlink.AUTO:
            await wait(self._news.uplink, _RETRY_AUTO)
        else:
            await wait(self._news.link, _RETRY)

    async def _summarize(self) -> NoReturn:
        """Once a minute, say what has happened since the last time, if anything has."""
        before, deaf_before = Tally(), 0
        while True:
            await asyncio.sleep(_SUMMARY)
            if self._uplink is not None:
                self._uplink.count_drops()
            now = self._tally.copy()
            news = now.since(before)
            if now != before:
                log.info("summary", f"last minute: {news}", **news.as_dict())
                self._manager.status(self._status())
            deaf = deaf_minutes(deaf_before, news, now)
            if deaf_before < _DEAF <= deaf:
                self._warn_of_deafness()
            before, deaf_before = now, deaf

    def _report(self, state: str) -> None:
        """Tell the service manager what this is at, from now on.

        That it waits for an interface is the end of the start too: the interface may come in an hour or never, and
        neither the boot nor `systemctl start` shall hang or fail for so long.
        """
        self._state = state
        self._manager.ready(self._status())

    def _status(self) -> str:
        return f"{self._state}; {self._tally}"

    async def _show_life(self) -> None:
        """Feed the service manager's watchdog for as long as frames are looked for, or there is no link to look at."""
        if self._manager.watchdog is None:
            return
        before: tuple[Uplink | None, int] = None, 0
        while True:
            now = (self._uplink, self._uplink.turns) if self._uplink else (None, 0)
            if now[0] is None or now != before:
                self._manager.alive()
            before = now
            await asyncio.sleep(self._manager.watchdog)

    def _warn_of_deafness(self) -> None:
        """Say that multicast does not arrive."""
        multicast = self._config.multicast
        log.warning(
            "deaf",
            f"{_DEAF} minutes with solicitations on {self._config.ifname}, and none by multicast: most likely a switch "
            "that snoops on MLD keeps them away, and addresses that are new to the router are not reachable; "
            f"{_REMEDIES[multicast]}",
            interface=self._config.ifname,
            multicast=multicast.value,
        )


def interfaces() -> str:
    """Return the names of the interfaces there are, for an error that leaves the choice."""
    return log.some([name for _, name in if_nameindex()])


def _there_are() -> str:
    return f"there are: {interfaces()}"
