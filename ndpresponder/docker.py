"""Which addresses containers hold on the networks that -N names, as the engine tells: Docker, or Podman, with one API.

`addresses_of` reads one network as the engine describes it, without I/O. Above it, a Watcher has two daemon threads,
since the SDK blocks: one asks, the other hears from the stream of events that it is time to ask again.

The rules that hold here:
- Subscribe, then look, then follow. What an event says does not matter, only that there is one: the whole network is
  looked at again. A filter for one network fails in Podman, where the actor of its events is the container.
- Networks go by their name: one that was removed and made again has another id.
- What the engine cannot be asked for stays as it was last known. Only its word ends an answer.
- The thread says nothing and changes nothing: it hands over whole, immutable states, and `rules` and `report` are for
  whoever takes them.

A sidecar has the socket's file mounted. An engine that made that file anew leaves behind a mount of one that is
deleted, which nobody will ever listen on: only mounting it again helps, so the program has to end. It does when the
engine is seen to listen again, and not before: until then nobody would start it again, and its answers would be missed.
Containers outlive their engine (live-restore), and so do the answers for them. `is_stale` says how that is seen.
"""

import json
import math
import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import quote

from . import log
from .config import DOCKER_SDK
from .containers import Held, Network, State, rules

_UNIQUE_LOCAL = 0xFC00 >> 9  # fc00::/7
_LINK_LOCAL = 0xFE80 >> 6  # fe80::/10
_MULTICAST = 0xFF  # ff00::/8
_IPV4_MAPPED = 0xFFFF  # ::ffff:0:0/96
# What changes who holds an address. Docker says so with events of networks; Podman, when a container starts and stops,
# with events of containers. Those of health checks and commands run inside, of which there can be many, are none.
_EVENTS = {
    "type": ["network", "container"],
    "event": ["connect", "disconnect", "create", "destroy", "remove", "start", "die", "died", "cleanup"],
}
_LONGEST_CHUNK = 1 << 16
"""Octets that are taken at once, whatever length the engine announces."""
_LONGEST_REPLY = 16 << 20
"""Octets of a reply, enough for 50,000 containers: whatever else listens where the engine should is not to fill the
memory."""
_LONGEST_REASON = 200
"""Characters of an engine's error that are repeated in the log."""


def addresses_of(network: object, *, unique_local: bool) -> Held:
    """Read a network as the engine's inspection describes it: the IPv6 addresses of its containers.

    Never among them: link-local ones, and the gateway's, which is this host itself. Raises ValueError for what is no
    network at all; an entry that cannot be read is counted.
    """
    if not isinstance(network, dict) or not isinstance(containers := network.get("Containers") or {}, dict):
        raise ValueError("the engine's answer is no network")  # noqa: TRY004 - it is what came that is wrong, not who called
    if driver := _on_link(network):
        return Held(frozenset(), on_link=driver)
    addresses = set()
    left_out = malformed = 0
    for container in containers.values():
        # Without IPv6 there is an empty text, or nothing.
        text = container.get("IPv6Address") or "" if isinstance(container, dict) else None
        if text == "":
            continue
        address = _address(text)
        if address is None:
            malformed += 1
        elif int(address) >> 121 == _UNIQUE_LOCAL and not unique_local:
            left_out += 1
        elif int(address) >> 118 != _LINK_LOCAL:
            addresses.add(address)
    return Held(frozenset(addresses - set(_gateways(network))), left_out, malformed)


def _on_link(network: dict[Any, Any]) -> str:
    """Return the driver if its containers are neighbors of the router and not behind this host.

    Those of ipvlan's layer 3 are behind it, and answer nobody (ipvlan.rst of the kernel's documentation).
    """
    driver, options = network.get("Driver"), network.get("Options")
    mode = options.get("ipvlan_mode") if isinstance(options, dict) else None
    if driver == "macvlan" or (driver == "ipvlan" and mode not in ("l3", "l3s")):
        return str(driver)
    return ""


def _address(text: object) -> IPv6Address | None:
    """Read a unicast address, with or without a prefix length."""
    if not isinstance(text, str):
        return None
    # IPv6Interface would take a tenth of a second for 5,000 containers.
    text, slash, length = text.partition("/")
    try:
        address = IPv6Address(text)
        if slash and not 0 <= int(length) <= 128:
            return None
    except ValueError:
        return None
    value = int(address)
    # :: and ::1 are nobody's, and a zone has no place here.
    if value <= 1 or value >> 120 == _MULTICAST or value >> 32 == _IPV4_MAPPED or address.scope_id:
        return None
    return address


def _gateways(network: dict[Any, Any]) -> Iterator[IPv6Address]:
    for text in _ranges(network, "Gateway"):
        if address := _address(text):
            yield address


def _ranges(network: dict[Any, Any], what: str) -> Iterator[object]:
    ipam = network.get("IPAM")
    ranges = ipam.get("Config") if isinstance(ipam, dict) else None
    for each in ranges if isinstance(ranges, list) else ():
        if isinstance(each, dict):
            yield each.get(what)


class EngineError(Exception):
    """The engine cannot be asked. The message says why, and what to do about it."""


class Described(NamedTuple):
    """A network as it was made."""

    name: str
    subnets: tuple[IPv6Network, ...] | None
    """Its IPv6 prefixes, none without IPv6; None: there is no network of this name."""


def describe(names: Iterable[str]) -> list[Described]:
    """Ask for networks once. Raises EngineError."""
    try:
        import docker  # noqa: F401, PLC0415 - a third of the program's memory, with -N only
    except ImportError as error:
        raise EngineError(f"{DOCKER_SDK.needed} ({error})") from error
    try:
        with closing(_Session(Timing.reply)) as session:
            return [_describe(session, name) for name in names]
    except Exception as error:  # whatever an odd reply makes the SDK raise
        raise EngineError(_reason(error, _socket_path())) from error


def _describe(session: "_Session", name: str) -> Described:
    network = session.network(name)
    # An engine takes the beginning of an id for a name, too.
    there = isinstance(network, dict) and network.get("Name") == name
    return Described(name, subnets_of(network) if there else None)


class _Session:
    """Asks the engine, over the SDK's connections. Whatever the SDK raises comes out if it cannot be asked.

    The SDK's own methods read without end, and their timeout begins anew with each octet.
    """

    def __init__(self, seconds: float) -> None:
        """Connect; each reply may take so many seconds."""
        import docker  # noqa: PLC0415 - the same

        self._seconds = seconds
        # The engine's own version of the API: the SDK may insist on one that the engine does not speak.
        self._client = docker.from_env(version=docker.constants.DEFAULT_DOCKER_API_VERSION, timeout=seconds).api
        # As its own methods do.
        self._client.headers.update(docker.utils.config.load_general_config().get("HttpHeaders") or {})
        self._version = ""
        with ExitStack() as undo:
            undo.callback(self.close)
            self._version = f"/v{_version(self._ask('/version'))}"
            undo.pop_all()

    def network(self, name: str) -> Any:
        """Return what the engine says of a network; nothing ({}) if there is none.

        Raises ValueError, in the engine's own words, if it refuses or makes no sense.
        """
        return self._ask(f"/networks/{quote(name)}")

    def events(self, silence: float) -> Any:
        """Return the SDK's response with the stream of events, which may be silent for so many seconds."""
        return self._get("/events", (self._seconds, silence), params={"filters": json.dumps(_EVENTS)})

    def close(self) -> None:
        """Close the connections but for streams that are read."""
        self._client.close()

    def _get(self, path: str, timeout: object, **parameters: object) -> Any:
        url = f"{self._client.base_url}{self._version}{path}"
        return self._client.get(url, stream=True, timeout=timeout, **parameters)

    def _ask(self, path: str) -> Any:
        deadline = monotonic() + self._seconds
        body = bytearray()
        with self._get(path, self._seconds) as response:
            for octets in response.iter_content(_LONGEST_CHUNK):
                body += octets
                if len(body) > _LONGEST_REPLY:
                    raise EngineError(f"the engine's answer to {path} is longer than {_LONGEST_REPLY >> 20} MiB")
                if monotonic() > deadline:
                    raise TimeoutError
        if response.status_code == 404:  # http.HTTPStatus would take 60 kB
            return {}
        if response.status_code != 200:
            raise ValueError(_message(body) or f"{response.status_code} {response.reason}")
        return json.loads(body)


def _version(told: object) -> str:
    version = told.get("ApiVersion") if isinstance(told, dict) else None
    if not isinstance(version, str):
        raise EngineError("the engine tells no version of its API")
    return version


def _message(body: bytearray) -> str:
    """Read why the engine refuses."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def subnets_of(network: dict[Any, Any]) -> tuple[IPv6Network, ...]:
    """Read a network as the engine's inspection describes it: its IPv6 prefixes, none where IPv6 is off."""
    if network.get("EnableIPv6") is False:
        return ()
    return tuple(prefix for text in _ranges(network, "Subnet") if (prefix := _subnet(text)))


def _subnet(text: object) -> IPv6Network | None:
    try:
        return IPv6Network(text, strict=False) if isinstance(text, str) else None
    except ValueError:
        return None


def report(before: State, now: State) -> None:
    """Log what is new, a line per change."""
    if now.obstacle and now.obstacle != before.obstacle:
        log.warning(
            "engine",
            f"Docker networks cannot be looked at: {now.obstacle}"
            + ("; answering for what was known last" if any(rules(now, now.networks)) else ""),
            reason=now.obstacle,
        )
    elif before.obstacle and not now.obstacle:
        log.info("engine", "the engine can be asked again")
    if now.deaf and now.deaf != before.deaf:
        log.warning(
            "engine",
            f"the engine does not tell of events ({now.deaf}): "
            f"it takes up to {Timing.longest_retry:.0f} seconds until a change is seen",
            reason=now.deaf,
        )
    elif before.deaf and not now.deaf:
        log.info("engine", "the engine tells of events again")
    for name, network in now.networks.items():
        _report(name, before.networks.get(name), network)


def _report(name: str, before: Network | None, now: Network) -> None:
    if now.obstacle:
        if before is None or now.obstacle != before.obstacle:
            _warn(name, now.obstacle, now.obstacle)
        return
    old = (before and before.held) or Held(frozenset())
    new = now.held or Held(frozenset())
    added, removed = sorted(new.addresses - old.addresses), sorted(old.addresses - new.addresses)
    was_there, is_there = before is not None and before.held is not None, now.held is not None
    if added or removed or before is None or before.obstacle or was_there != is_there:
        changes = log.some([*(f"+{address}" for address in added), *(f"-{address}" for address in removed)])
        if is_there:
            state = "1 address" if len(new.addresses) == 1 else f"{len(new.addresses)} addresses"
        else:
            state = "removed; waiting for it" if was_there else "there is none of this name; waiting for it"
        log.info(
            "network",
            f"network {name}: {state}" + (f", {changes}" if changes else ""),
            network=name,
            addresses=len(new.addresses),
            added=len(added),
            removed=len(removed),
        )
    if new.unique_local and not old.unique_local:
        log.info(
            "network",
            f"network {name}: unique-local addresses are not answered for, {new.unique_local} at present "
            "(--docker-unique-local answers for them too)",
            network=name,
            reason="unique-local",
        )
    if new.on_link and not old.on_link:
        _warn(
            name,
            f"not answered for: its driver is {new.on_link}, with which containers are on the uplink's own link and "
            "answer for themselves",
            new.on_link,
        )
    if new.malformed and not old.malformed:
        who = "1 container holds" if new.malformed == 1 else f"{new.malformed} containers hold"
        _warn(name, f"what {who} is no unicast IPv6 address; not answered for", "malformed")


def _warn(name: str, what: str, reason: str) -> None:
    log.warning("network", f"network {name}: {what}", network=name, reason=reason)


@dataclass(frozen=True)
class Timing:
    """In seconds."""

    retry: float = 1.0
    """From the first failure to the next attempt; doubled by each one that follows."""
    longest_retry: float = 30.0
    resync: float = 60.0
    """Between two looks, however quiet it is: what an event would have told can have been lost."""
    silence: float = 90.0
    """Without an event, until the stream is taken for dead and opened anew: a peer that is gone need not say so."""
    echo: float = 0.5
    """From an event to a second look: Podman tells that a network is connected before it is."""
    settle: float = 0.05
    """Between two looks while events come in bursts; but no more than half of the time is spent on looking."""
    reply: float = 10.0
    """That the engine may take for one reply."""
    calm: float = 60.0
    """Between two things that are said of why a network cannot be looked at. An engine can give each of its errors a
    number, or fail every other time."""


def delays(timing: Timing) -> Iterator[float]:
    """Yield how long to wait after each failure in a row."""
    delay = timing.retry
    while True:
        yield delay
        delay = min(2 * delay, timing.longest_retry)


class Watcher:
    """Follows the networks of these names and calls `hand_over` with each new state, in a thread of its own.

    Beside each name is whether the unique-local addresses of its containers count.
    """

    def __init__(
        self,
        networks: Mapping[str, bool],
        hand_over: Callable[[State], None],
        *,
        timing: Timing | None = None,
    ) -> None:
        self._networks = networks
        self._hand_over = hand_over
        self._timing = timing or Timing()
        self._state = State()
        self._stopping = Event()
        self._news = Event()
        # When it was last said why a network cannot be looked at.
        self._told: dict[str, float] = {}
        self._session: _Session | None = None
        self._listener: _Listener | None = None
        self._delays = delays(self._timing)
        self._thread = Thread(target=self._run, name="docker", daemon=True)

    def start(self) -> None:
        """Begin; the SDK is imported then."""
        self._thread.start()

    def follow(self, networks: Mapping[str, bool]) -> None:
        """Follow these networks from now on; what is known of those that stay is kept."""
        self._networks = networks
        self._news.set()

    def stop(self) -> None:
        """Let the threads end, when they are next awake. They keep no process from ending."""
        self._stopping.set()
        self._news.set()

    def _run(self) -> None:
        try:
            import docker  # noqa: F401, PLC0415 - a third of the program's memory, with -N only
        except ImportError as error:
            self._become(State(fatal=f"the Docker SDK for Python cannot be used: {error}"))
            return
        heard = True
        while not self._stopping.is_set():
            begun = monotonic()
            self._news.clear()
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever an odd reply makes the SDK raise: this thread goes on
                self._give_up(error)
                self._pause()
                heard = True
                continue
            # A burst of events: one look for all that come meanwhile.
            self._stopping.wait(max(self._timing.settle, monotonic() - begun))
            heard = self._news.wait(self._timing.echo if heard else self._timing.resync)
            if self._listener and not self._listener.is_alive():
                if not self._listener.refused:
                    self._delays = delays(self._timing)
                self._pause()
        self._disconnect()

    def _pause(self) -> None:
        self._stopping.wait(next(self._delays))

    def _disconnect(self) -> None:
        if self._session:
            self._session.close()
            self._session = None

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self._hand_over(state)

    def _look(self) -> None:
        """Ask for each network, over a connection that is made if there is none, after subscribing to events."""
        deaf = self._listener.refused if self._listener else ""
        lost = self._listener is None or not self._listener.is_alive()
        if lost:
            # Who listens there now can be another engine, upgraded meanwhile, which speaks other versions of the API.
            self._disconnect()
        if self._session is None:
            self._session = _Session(self._timing.reply)
        if lost:
            self._listener = _Listener(self._session, self._news, self._timing.silence, refused=deaf)
            self._listener.start()
        networks = {}
        for name, unique_local in self._networks.items():
            known = self._state.networks.get(name, Network(None))
            try:
                network = self._session.network(name)
                # An engine takes the beginning of an id for a name, too.
                there = not isinstance(network, dict) or network.get("Name") == name
                networks[name] = Network(addresses_of(network, unique_local=unique_local) if there else None)
            except ValueError as error:
                networks[name] = Network(known.held, self._obstacle(name, _one_line(error), known.obstacle))
        self._told = {name: self._told[name] for name in networks if name in self._told}
        self._become(State(networks, deaf=deaf))

    def _obstacle(self, name: str, now: str, before: str) -> str:
        """Return why a network cannot be looked at, as far as that is to be said: anything new every now and then."""
        time = monotonic()
        if now == before or time < self._told.get(name, -math.inf) + self._timing.calm:
            return before
        self._told[name] = time
        return now

    def _give_up(self, error: Exception) -> None:
        """Take note that the engine cannot be asked, and begin with a new connection next time."""
        self._disconnect()
        path = _socket_path()
        fatal = ""
        if path and is_stale(path):
            fatal = (
                f"the engine has made its socket anew, and the mounted {path} is the old one: ending, so that a "
                "restart mounts it again (mount its directory instead, and this is not needed)"
            )
        self._become(State(self._state.networks, _reason(error, path), self._state.deaf, fatal))


class _Listener(Thread):
    """Sets `news` when it is subscribed to events, at each of them, and at the end.

    `refused` is why the engine refuses to tell of them; until it has replied, what it said to the listener before.
    """

    def __init__(self, session: _Session, news: Event, silence: float, refused: str) -> None:
        super().__init__(name="docker events", daemon=True)
        self.refused = refused
        self._session = session
        self._news = news
        self._silence = silence

    def run(self) -> None:
        # However it ends: what that means shows at the next look.
        with suppress(Exception), self._session.events(self._silence) as response:
            well = response.status_code == 200
            self.refused = "" if well else _one_line(f"{response.status_code} {response.reason}")
            self._news.set()
            for _ in response.iter_content(_LONGEST_CHUNK):
                self._news.set()
        self._news.set()


def _socket_path() -> str:
    """Return the path of the engine's socket, or nothing if it is no socket in the file system."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    kind, _, path = host.partition("://")
    return path if kind in ("unix", "http+unix") else ""


def is_stale(path: str) -> bool:
    """Whether the mounted socket `path` is deleted on the host, and one of the same name is listened on again.

    The kernel marks a mount of a deleted file (proc_pid_mountinfo(5)), and shows which sockets of this network, the
    host's for a sidecar, are listened on (/proc/net/unix), under the names that they have for the host.
    """
    name = next(_deleted(os.path.realpath(path)), None)
    if name is None:
        return False
    # The flags of a socket that is listened on: __SO_ACCEPTCON of linux/net.h.
    listening = (line.split(maxsplit=7) for line in _lines("/proc/net/unix"))
    return any(len(each) == 8 and each[3] == "00010000" and each[7].endswith(name) for each in listening)


def _deleted(mount_point: str) -> Iterator[str]:
    """Yield the name, in its own file system, of the deleted file that is mounted there."""
    for line in _lines("/proc/self/mountinfo"):
        # Blanks and the like are written as octal numbers.
        _, _, _, root, at, *_ = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), x) for x in line.split(" "))
        if at == mount_point and root.endswith("//deleted"):
            yield root.removesuffix("//deleted")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _reason(error: BaseException, path: str) -> str:
    """Return in one line why the engine cannot be asked, and what to do about it."""
    causes = list(_causes(error))
    at = path or os.environ.get("DOCKER_HOST", "")
    for cause in causes:
        match cause:
            case PermissionError():
                return f"no permission on {at}: run as root, or as a member of its group"
            case FileNotFoundError() if path:
                return (
                    f"no socket at {at}: is an engine running there? DOCKER_HOST names another "
                    "(Podman: unix:///run/podman/podman.sock); into a container it has to be mounted"
                )
            case ConnectionRefusedError() if path and Path(path).is_dir():
                return f"{at} is a directory: most likely there was no socket yet when it was mounted"
            case ConnectionRefusedError():
                return f"nobody listens on {at}: the engine is not running"
            case ConnectionError():
                return f"{at} closes the connection"
            case ssl.SSLError():
                return f"no TLS with {at}: {_one_line(cause)} (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH)"
            case TimeoutError():
                return f"no reply from {at}"
            case OSError(strerror=str(text)):
                # No route, or no such name.
                return f"{at} cannot be reached: {text}"
    return _one_line(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to an error, from the outside to the inside; libraries wrap in more than one way."""
    found: list[BaseException] = [error]
    for each in found:
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        found += (other for other in inner if isinstance(other, BaseException) and other not in found)


def _one_line(error: object) -> str:
    """Return what an engine says as it can be shown: control characters would command the terminal that shows it."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
