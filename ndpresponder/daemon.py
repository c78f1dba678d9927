"""Assembles the rooms, runs them, reloads, and stops.

Each interface of the configuration is a Station of its own. They share what is one for the whole host: the news of the
kernel, and the watcher of containers.
"""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import fields
from ipaddress import IPv6Address
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__, log, netlink, state
from .claim import DIRECTORY
from .config import Config, ConfigError, Endpoint, Interface
from .containers import State
from .control import Reply, Request, RequestError, Server
from .responder import Tally
from .station import Counts, DaemonError, Station
from .systemd import ServiceManager
from .uplink import Shared

if TYPE_CHECKING:
    from . import docker, metrics

_RETRY_LISTENING = 30.0
"""Seconds until netlink is tried again, if there is none to listen to; and between two looks without it."""
_SUMMARY = 60.0
"""Seconds between two summaries."""
_COMPLAINT = 60.0
"""Seconds between two lines about what the loop could not do: without descriptors it tries to accept many times a
second."""
_GLANCE = 0.05
"""Seconds between two looks at what has happened, for those who watch. Nobody is woken up for each frame."""
_SWITCH_INTERVAL = 0.0005
"""Seconds that an answer waits at most for the interpreter while something else is being computed."""


async def run(config: Config, read_again: Callable[[], Config] | None = None, file: str | None = None) -> None:
    """Answer until SIGINT or SIGTERM. Raises DaemonError when that is impossible, ConfigError when it will stay so.

    SIGHUP has the configuration read again, where there is something to read: `read_again` returns what it is now, or
    raises ConfigError. `file` is the absolute path of what it reads, for those who ask. Where there is nothing to read
    it is the end too, as of a terminal, unless it is ignored, as nohup(1) has it.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL)
    daemon = _Daemon(config, read_again, file)
    serving = asyncio.ensure_future(daemon.serve())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(daemon.complain)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    if read_again:
        loop.add_signal_handler(signal.SIGHUP, daemon.hung_up.set)
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, serving.cancel)
    # One that came since the start is heard now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    await asyncio.wait([serving])
    # The loop ends before the claim does, and with it goes what hears this.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if not serving.cancelled():
        serving.result()


class _Daemon:
    def __init__(self, config: Config, read_again: Callable[[], Config] | None = None, file: str | None = None) -> None:
        self.hung_up = asyncio.Event()
        """To be set when the configuration is to be read again."""
        self._config = config
        self._read_again = read_again
        self._file = file
        self._begun = monotonic()
        self._shared = Shared()
        # By interface, of those that are gone too: one that comes back goes on counting.
        self._counts: dict[str, Counts] = {}
        self._stations = {interface.ifname: self._station(interface) for interface in config.interfaces}
        self._serving: dict[str, asyncio.Task[NoReturn]] = {}
        self._containers = State()
        self._watcher: docker.Watcher | None = None
        self._manager = ServiceManager()
        self._listener: metrics.Listener | None = None
        self._scraping: asyncio.Task[NoReturn] | None = None
        self._outcome: state.Outcome | None = None
        self._complained = -_COMPLAINT
        self._control = Server(
            {
                "status": self._describe,
                "explain": self._explain,
                "monitor": self._name_watched,
                "reloads": self._name_file,
            },
            DIRECTORY,
            config.control_group,
            {"monitor": self._watch_frames, "reloads": self._watch_reloads},
        )
        # Has an error as soon as there is no use in going on.
        self._failed: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Answer for ever, however often the interfaces go and come. Raises DaemonError or ConfigError."""
        self._expose(self._listen_for_scrapes(self._config.metrics))
        self._remark(self._config.interfaces)
        for station in self._stations.values():
            self._begin(station)
        followers = (
            *(self._listen, self._summarize, self._show_life, self._follow_containers, self._reload),
            self._control.serve,
        )
        beside = [asyncio.ensure_future(follow()) for follow in followers]
        for task in beside:
            task.add_done_callback(self._fail_with)
        try:
            await self._failed
        except asyncio.CancelledError:
            await self._end(list(self._stations))
            tally = self._tally()
            log.info("stopped", f"stopped: {tally}", **tally.as_dict())
            raise
        finally:
            self._manager.stopping()
            for task in beside:
                task.cancel()
            await self._end(list(self._stations))
            self._expose(None)
            self._watch_engine({})

    def complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say what the loop could not do, where nobody waits for it. What is no trouble with the system is shown."""
        error = context.get("exception")
        if not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif loop.time() - self._complained >= _COMPLAINT:
            self._complained = loop.time()
            log.warning("system", f"{context['message']} ({error.strerror})", reason=error.strerror)

    # Interfaces

    def _station(self, interface: Interface) -> Station:
        counts = self._counts.setdefault(interface.ifname, Counts())
        return Station(interface, counts, self._shared, self._report)

    def _begin(self, station: Station) -> None:
        ifname = station.config.ifname
        self._stations[ifname] = station
        self._serving[ifname] = task = asyncio.ensure_future(station.serve())
        task.add_done_callback(self._fail_with)

    async def _end(self, ifnames: list[str]) -> None:
        """Answer no more on these interfaces."""
        tasks = [self._serving.pop(ifname) for ifname in ifnames]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ifname in ifnames:
            self._stations.pop(ifname).retire()

    def _fail_with(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    @staticmethod
    def _remark(interfaces: tuple[Interface, ...]) -> None:
        for interface in interfaces:
            for remark in interface.remarks:
                log.warning("remark", remark)

    # Reloading

    async def _reload(self) -> None:
        """Read the configuration again, whenever that is wanted."""
        while self._read_again:
            await self.hung_up.wait()
            self.hung_up.clear()
            self._manager.reloading()
            try:
                told = await self._become(self._read_again())
                self._outcome = state.Outcome(reloaded=True, text=told, at=monotonic())
            except (ConfigError, DaemonError) as error:
                self._outcome = state.Outcome(reloaded=False, text=str(error), at=monotonic())
                log.error("not-reloaded", f"not reloaded, going on as before: {error}", reason=str(error))
            self._report()

    async def _become(self, config: Config) -> str:
        """Do as this says from now on, all of it, and return what that changes in words.

        Raises DaemonError or ConfigError, and then nothing has changed.
        """
        wanted = {interface.ifname: interface for interface in config.interfaces}
        listener = self._listen_for_scrapes(config.metrics)
        new = [self._station(wanted[ifname]) for ifname in wanted.keys() - self._stations.keys()]
        try:
            for station in new:
                await station.prepare()
        except BaseException:
            for station in new:
                station.abandon()
            if listener and listener is not self._listener:
                listener.close()
            raise
        # From here on nothing is refused.
        gone = sorted(self._stations.keys() - wanted.keys())
        changed = sorted(
            ifname for ifname, station in self._stations.items() if wanted.get(ifname, station.config) != station.config
        )
        settings = [
            # Their keys are written so.
            each.name.replace("_", "-")
            for each in fields(config)
            if each.name != "interfaces" and getattr(config, each.name) != getattr(self._config, each.name)
        ]
        self._config = config
        log.setup(log.LEVELS[config.log_level], config.log_format)
        self._expose(listener)
        self._control.admit(config.control_group)
        self._remark(config.interfaces)
        self._watch_engine(_networks(config))
        for ifname in changed:
            self._stations[ifname].reconfigure(wanted[ifname], self._containers)
        for station in new:
            station.follow_containers(self._containers)
            self._begin(station)
        for station in self._stations.values():
            station.set_verbose()
        await self._end(gone)
        came = sorted(station.config.ifname for station in new)
        what = {"new": came, "changed": [*changed, *settings], "gone": gone}
        told = "; ".join(f"{word}: {log.some(names)}" for word, names in what.items() if names) or "nothing changed"
        log.info("reloaded", f"reloaded: {told}", new=came, changed=changed, gone=gone, settings=settings)
        return told

    # What is one for all of them

    async def _listen(self) -> NoReturn:
        """Pass on what the kernel tells of changes."""
        said = None
        while True:
            try:
                with closing(netlink.Changes()) as changes:
                    while True:
                        self._tell(await changes.wait())
            except OSError as error:
                if said != error.strerror:
                    said = error.strerror
                    log.warning("netlink", f"changes of addresses and gateways are not followed: no netlink ({said})")
            await asyncio.sleep(_RETRY_LISTENING)
            # Nobody knows what has changed in the meantime.
            self._tell(netlink.ANYTHING)

    def _tell(self, changed: netlink.Changed) -> None:
        for station in self._stations.values():
            station.heed(changed)

    async def _follow_containers(self) -> None:
        """Have the engine watched, once answering has begun."""
        await self._shared.answering.wait()
        self._watch_engine(_networks(self._config))

    def _watch_engine(self, networks: dict[str, bool]) -> None:
        """Have the engine watched for these networks from now on, in a thread."""
        loop = asyncio.get_running_loop()
        if not networks:
            if self._watcher:
                self._watcher.stop()
            self._watcher, self._containers = None, State()
        elif self._watcher:
            self._watcher.follow(networks)
        elif self._shared.answering.is_set():
            from . import docker  # noqa: PLC0415 - only who wants it pays for it

            def hand_over(state: State) -> None:
                # The loop may have ended before the thread.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._heed, watcher, state)

            watcher = self._watcher = docker.Watcher(networks, hand_over)
            watcher.start()

    def _heed(self, watcher: "docker.Watcher", state: State) -> None:
        """Answer for what containers hold now."""
        from .docker import report  # noqa: PLC0415 - it is there, since it called

        if watcher is not self._watcher:
            return
        before, self._containers = self._containers, state
        for station in self._stations.values():
            station.follow_containers(state)
        report(before, state)
        if state.fatal:
            self._fail(DaemonError(state.fatal))

    def _listen_for_scrapes(self, endpoint: Endpoint | None) -> "metrics.Listener | None":
        """Return what listens there: what does already, or one more. Raises DaemonError or ConfigError."""
        if endpoint is None or (self._listener and self._listener.endpoint == endpoint):
            return endpoint and self._listener
        from . import metrics  # noqa: PLC0415 - only who wants them pays for them

        try:
            return metrics.Listener(endpoint, self._look)
        except OSError as error:
            told = f"cannot listen for Prometheus on {endpoint}: {os.strerror(error.errno or 0)}; "
            if error.errno in (errno.EAFNOSUPPORT, errno.EPERM):
                raise ConfigError(
                    f"{told}under systemd it needs the drop-in metrics.conf, see docs/metrics.md"
                ) from error
            raise DaemonError(f"{told}give metrics an address of this host and a port that nobody uses") from error

    def _expose(self, listener: "metrics.Listener | None") -> None:
        """Have scrapes answered by this listener from now on, and by no other."""
        if listener is self._listener:
            return
        if self._scraping:
            self._scraping.cancel()
        self._listener, self._scraping = listener, None
        if listener:
            self._scraping = asyncio.ensure_future(listener.run())
            self._scraping.add_done_callback(self._fail_with)
            # Not before its end: until then the loop looks at the descriptor.
            self._scraping.add_done_callback(lambda _: listener.close())

    def _look(self) -> "metrics.State":
        """Return what there is to know now."""
        from . import metrics  # noqa: PLC0415 - only who wants them pays for them

        followed = bool(_networks(self._config))
        return metrics.State(
            tuple(map(metrics.figures_of, self._stations.values())),
            not self._containers.obstacle and bool(self._containers.networks) if followed else None,
            self._outcome and self._outcome.reloaded,
        )

    async def _summarize(self) -> NoReturn:
        """Once a minute, say what has happened since the last time, if anything has."""
        while True:
            await asyncio.sleep(_SUMMARY)
            # Each of them: summarize() is not to be skipped for what another one says.
            if any([station.summarize() for station in self._stations.values()]):  # noqa: C419 - see above
                self._manager.status(self._status())

    # The control socket

    def _name_watched(self, _: Request) -> Reply:
        """Tell what there is to be seen."""
        return {"process": os.getpid(), "interfaces": list(self._stations)}

    async def _watch_frames(self) -> AsyncGenerator[list[Reply], None]:
        """Yield what is seen from now on, and how much is lost because it is not taken."""
        from .sight import Watch, document  # noqa: PLC0415 - once somebody watches

        watch = Watch()
        self._shared.watches.append(watch)
        try:
            while True:
                seen, lost = watch.take()
                yield [*map(document, seen), *([{"lost": lost}] if lost else [])]
                await asyncio.sleep(_GLANCE)
        finally:
            self._shared.watches.remove(watch)

    def _name_file(self, _: Request) -> Reply:
        """Tell what is read again."""
        return {"process": os.getpid(), "file": self._file}

    async def _watch_reloads(self) -> AsyncGenerator[list[Reply], None]:
        """Yield what comes of the next reload, as soon as it is over, and so on."""
        before = self._outcome
        while True:
            outcome = self._outcome
            yield [state.reload(outcome, monotonic())] if outcome and outcome is not before else []
            before = outcome
            await asyncio.sleep(_GLANCE)

    def _describe(self, _: Request) -> Reply:
        """Tell what this is at."""
        now = monotonic()
        return {
            "program": __version__,
            "process": os.getpid(),
            **state.daemon(
                (state.interface(each, self._containers, now) for each in self._watched()),
                self._containers,
                self._file,
                now - self._begun,
                self._outcome and state.reload(self._outcome, now),
            ),
        }

    def _explain(self, request: Request) -> Reply:
        """Tell what becomes of solicitations for an address."""
        try:
            address = IPv6Address(str(request.get("address")))
        except ValueError as error:
            raise RequestError("explain needs an address, a text such as 2001:db8::5") from error
        if address.scope_id:
            raise RequestError("a zone has no place in the address")
        now = monotonic()
        return {
            "process": os.getpid(),
            "file": self._file,
            "address": str(address),
            "interfaces": [
                {**state.presence(each), **state.fate(each.config, each.addresses, address, now)}
                for each in self._watched()
            ],
        }

    def _watched(self) -> Iterator[state.Watched]:
        for station in self._stations.values():
            yield state.Watched(
                station.config,
                station.condition(),
                station.obstacle,
                station.addresses,
                station.tally,
                station.uses,
            )

    # The service manager

    def _report(self) -> None:
        """Tell the service manager what this is at, from now on.

        That it waits for an interface is the end of the start too: the interface may come in an hour or never, and
        neither the boot nor `systemctl start` shall hang or fail for so long.
        """
        if all(station.state for station in self._stations.values()):
            self._manager.ready(self._status())

    def _status(self) -> str:
        refused = self._outcome and not self._outcome.reloaded and f"not reloaded: {self._outcome.text}"
        states = (station.state for station in self._stations.values())
        return "; ".join([*([refused] if refused else []), *states, str(self._tally())])

    def _tally(self) -> Tally:
        """Return what all interfaces come to, those that are gone among them."""
        total = Tally()
        for counts in self._counts.values():
            total = total.plus(counts.tally)
        return total

    async def _show_life(self) -> None:
        """Feed the service manager's watchdog for as long as every station is alive."""
        if self._manager.watchdog is None:
            return
        while True:
            # Each of them is asked, or it would be about a longer time when it is asked next.
            if all([station.is_alive() for station in self._stations.values()]):  # noqa: C419 - see above
                self._manager.alive()
            await asyncio.sleep(self._manager.watchdog)


def _networks(config: Config) -> dict[str, bool]:
    """The Docker networks to follow, and whether their unique-local addresses count."""
    return {name: each.docker_unique_local for each in config.interfaces for name in each.docker_networks}
