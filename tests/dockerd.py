"""A Docker engine of its own on a host of the lab, gone when the test is.

dockerd, its containerd, the shims and the containers live in a process and a mount namespace: when the first process
of that namespace is killed, the kernel kills all of them, however far dockerd has come, and takes the mounts
away. What dockerd sets up in the network is in the host's network namespace, and goes with it.
"""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Network, IPv6Network
from itertools import count
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import pytest
from lab import Program, wait_until
from namespaces import Namespace, end

IMAGE = "box"
CGROUPS = Path("/sys/fs/cgroup")

# setsid: Ctrl-C on the terminal is not for an engine's processes; they are ended in order.
_UNSHARE = "setsid setpriv --pdeathsig KILL unshare --kill-child --mount --propagation slave --pid --fork --mount-proc"
# The first process of the namespace: it holds it open. Ignoring SIGCHLD (which a shell's trap does not do) lets the
# kernel reap what loses its parent: dockerd takes a containerd that is not reaped for one that runs. tmpfs, so that
# nothing reaches the disk, and overlay2 works where /tmp itself is an overlay.
_HOLD = "mount -t tmpfs engine {state} && echo held && exec env --ignore-signal=CHLD sleep infinity"
# No rules of a packet filter (newer versions drop what is forwarded to containers), no bridge of its own, no process
# per published port: nothing of that is looked at here. The cgroups by hand: there need not be a systemd, and they can
# be found afterwards.
_FLAGS = (
    "--iptables=false --ip6tables=false --bridge=none --userland-proxy=false --storage-driver=overlay2 "
    "--exec-opt native.cgroupdriver=cgroupfs"
)
_PATIENCE = 60.0
_NAME = re.compile(r"ndpr-(\d+)-engine")
_numbers = count(1)


HANDS_OFF = "--ip-forward=false --ip-masq=false"
"""Flags with which an engine changes nothing in its host's network, as long as it has no networks of its own."""


class EngineError(Exception):
    """The engine cannot be started, or refuses what it was asked; the text is its own."""


class Network(NamedTuple):
    """A network for containers: its name and where its addresses are from, only for IPv4 if it has no `subnet`."""

    name: str
    subnet: IPv6Network | None
    subnet4: IPv4Network

    def address(self, number: int) -> str:
        """Return one of its addresses."""
        assert self.subnet is not None
        return str(self.subnet[number])


EXPOSED = Network("exposed", IPv6Network("2001:db8:1::e:1:0/112"), IPv4Network("10.1.0.0/16"))
"""The network that ndpresponder is told of."""
OTHER = Network("other", IPv6Network("2001:db8:1::e:2:0/112"), IPv4Network("10.2.0.0/16"))
ONLY_IPV4 = Network("only-ipv4", None, IPv4Network("10.4.0.0/16"))


class ThisMachine(Namespace):
    """The network that this process is in, in place of a host of the lab."""

    def __init__(self) -> None:
        super().__init__("machine")
        self.path = Path("/proc/self/ns/net")


class _Connection(HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """A Docker engine on a host, running from entry to exit, with one image, IMAGE: a static busybox.

    With `live_restore` its containers outlive dockerd; without, which is Docker's default, they end with it.
    `flags` are more of dockerd's own.

    Its containers and networks are made and changed by name. Each call returns when the engine says that it is
    done, and raises EngineError if it says otherwise.
    """

    def __init__(self, host: Namespace, *, live_restore: bool = True, flags: str = "") -> None:
        self._host = host
        self._dockerd: Program | None = None
        self.name = f"ndpr-{os.getpid()}-engine-{next(_numbers)}"
        # With all containers in a cgroup that is this engine's.
        self._flags = f"{_FLAGS} --cgroup-parent=/{self.name} --live-restore={str(live_restore).lower()} {flags}"

    def __enter__(self) -> Self:
        sweep()
        with ExitStack() as undo:
            directory = Path(tempfile.mkdtemp(prefix=self.name))
            undo.callback(shutil.rmtree, directory)
            undo.callback(remove_cgroups, self.name)
            self._state = directory / "state"
            self._state.mkdir()
            self.socket = directory / "docker.sock"
            # Killed with this process at the latest, whatever happens to it.
            words = f"{_UNSHARE} sh -c".split()
            holder = self._host.popen(
                *words, _HOLD.format(state=self._state), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            undo.callback(end, holder)
            assert holder.stdout is not None
            if (line := holder.stdout.readline()) != "held\n":
                raise EngineError(f"no namespaces for an engine: {line.strip()}")
            [self._inside] = _children(holder.pid)
            # Its end is the end of all that is in the namespace.
            undo.callback(holder.wait, _PATIENCE)
            undo.callback(os.kill, self._inside, SIGKILL)
            undo.callback(self._end_dockerd)
            self.start_engine()
            self._import_image()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # The engine itself

    @property
    def url(self) -> str:
        """What DOCKER_HOST is set to."""
        return f"unix://{self.socket}"

    def ndpresponder(self, *arguments: str) -> list[str]:
        """Return the command line of an ndpresponder on eth0 that asks this engine."""
        environment = f"env -u NDPRESPONDER_LOG DOCKER_HOST={self.url}".split()
        return [*environment, *f"{sys.executable} -m ndpresponder -i eth0 --log-format json".split(), *arguments]

    def start_engine(self) -> None:
        """Start dockerd and wait until it answers."""
        if self._dockerd is not None:
            raise RuntimeError("dockerd is running")
        places = f"--data-root={self._state}/data --exec-root={self._state}/exec --pidfile={self._state}/pid"
        enter = f"--target={self._inside} --mount --pid --"
        words = f"setsid nsenter {enter} dockerd {places} --host={self.url} {self._flags}".split()
        dockerd = Program(self._host, *words)

        def answers() -> bool:
            if dockerd.process.poll() is not None:
                raise EngineError(f"dockerd: {_last_line(dockerd)}")
            try:
                return bool(self._ask("GET", "/_ping") == "OK")
            except (OSError, HTTPException):
                return False

        self._dockerd = dockerd
        try:
            wait_until(answers, "dockerd answering", _PATIENCE)
        except BaseException as error:
            said = _last_line(dockerd)
            self.kill_engine()
            if isinstance(error, TimeoutError):
                raise EngineError(f"{error}: {said}") from error
            raise

    def stop_engine(self) -> None:
        """Ask dockerd to end, and wait until it has; with `live_restore` its containers go on."""
        self._end_engine(SIGTERM)

    def kill_engine(self) -> None:
        """Kill dockerd; its containers go on, for as long as it does not run."""
        self._end_engine(SIGKILL)

    @property
    def running(self) -> bool:
        """Whether dockerd has been started and not been ended."""
        return self._dockerd is not None

    def _end_engine(self, number: int) -> None:
        if self._dockerd is None:
            raise RuntimeError("dockerd is not running")
        dockerd, self._dockerd = self._dockerd, None
        containerd: list[Path] = []
        with dockerd:
            if dockerd.process.poll() is None:
                # nsenter waits for it, and ends as it does.
                [pid] = _children(dockerd.process.pid)
                containerd = [Path(f"/proc/{child}") for child in _children(pid)]
                os.kill(pid, number)
                dockerd.wait(_PATIENCE)
        # It dies with dockerd (PR_SET_PDEATHSIG), a little later. A dockerd that starts before takes it for its own.
        wait_until(lambda: not any(each.exists() for each in containerd), "containerd gone", _PATIENCE)

    def _end_dockerd(self) -> None:
        # By us: what nsenter leaves behind belongs to the machine's first process, which can take seconds to reap it.
        if self._dockerd is not None:
            self.kill_engine()

    def _import_image(self) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            busybox = shutil.which("busybox")
            if busybox is None:
                raise EngineError("no busybox for an image")
            tar.add(os.path.realpath(busybox), "bin/busybox")
        self._ask("POST", "/images/create", archive.getvalue(), fromSrc="-", repo=IMAGE)

    # Networks

    def create_network(self, network: Network) -> None:
        """Make a bridge network."""
        subnets = [{"Subnet": str(each)} for each in (network.subnet4, network.subnet) if each is not None]
        self._ask(
            "POST",
            "/networks/create",
            {
                "Name": network.name,
                "Driver": "bridge",
                "CheckDuplicate": True,
                "EnableIPv6": network.subnet is not None,
                "IPAM": {"Config": subnets},
            },
        )

    def remove_network(self, name: str) -> None:
        """Remove a network that no container is on."""
        self._ask("DELETE", f"/networks/{name}")

    def network(self, name: str) -> dict[str, Any]:
        """Return what the engine tells about a network."""
        told: dict[str, Any] = self._ask("GET", f"/networks/{name}")
        return told

    # Containers

    def create(self, name: str, network: str, ip6: str | None = None, **host_config: Any) -> None:
        """Make a container that sleeps, on a network, with an address of its choice if one is given."""
        self._ask(
            "POST",
            "/containers/create",
            {
                "Image": IMAGE,
                "Cmd": ["/bin/busybox", "sleep", "1000000"],
                "StopSignal": "SIGKILL",
                "HostConfig": {"NetworkMode": network, **host_config},
                "NetworkingConfig": {"EndpointsConfig": {network: _endpoint(ip6)}},
            },
            name=name,
        )

    def start(self, name: str) -> None:
        """Start a container that is there."""
        self._ask("POST", f"/containers/{name}/start")

    def run(self, name: str, network: str, ip6: str | None = None, **host_config: Any) -> None:
        """Make a container and start it."""
        self.create(name, network, ip6, **host_config)
        self.start(name)

    def stop(self, name: str) -> None:
        """End a container's processes at once; it stays, with its addresses to come back to."""
        self._ask("POST", f"/containers/{name}/stop", t=0)

    def remove(self, *names: str) -> None:
        """Remove containers, running or not."""
        for name in names:
            self._ask("DELETE", f"/containers/{name}", force="true", v="true")

    def connect(self, network: str, container: str, ip6: str | None = None) -> None:
        """Connect a container to one more network."""
        self._ask("POST", f"/networks/{network}/connect", {"Container": container, "EndpointConfig": _endpoint(ip6)})

    def disconnect(self, network: str, container: str) -> None:
        """Disconnect a container from a network."""
        self._ask("POST", f"/networks/{network}/disconnect", {"Container": container})

    def address(self, container: str, network: str) -> str:
        """Return the IPv6 address that a running container has on a network; empty when it has none."""
        told = self._ask("GET", f"/containers/{container}/json")
        return str(told["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"])

    def process(self, container: str) -> int:
        """Return the pid of a running container's first process, as this process sees it."""
        found = self._ask("GET", f"/containers/{container}/json")["Id"]
        pids = {
            line for path in _cgroups(f"{self.name}/{found}") for line in (path / "cgroup.procs").read_text().split()
        }
        # What it has started itself, or the engine for a health check, has another number in the container.
        [pid] = [pid for pid in pids if _innermost(pid) == "1"]
        return int(pid)

    def printed(self, container: str) -> str:
        """Return all that a container has printed so far; dockerd need not be running."""
        # The engine's files are in its mount namespace.
        directories = Path(f"/proc/{self._inside}/root{self._state}/data/containers")
        for path in directories.glob("*/config.v2.json"):
            if json.loads(path.read_text())["Name"] == f"/{container}":
                lines = path.with_name(f"{path.parent.name}-json.log").read_text().splitlines()
                return "".join(json.loads(line)["log"] for line in lines)
        return ""

    def clear(self) -> None:
        """Remove all containers and all networks that were made."""
        self.remove(*(each["Id"] for each in self._ask("GET", "/containers/json", all="true")))
        for network in self._ask("GET", "/networks"):
            if network["Name"] not in {"host", "none"}:
                self.remove_network(network["Id"])

    def _ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Ask the engine for something and return its answer, read as JSON if that is what it is."""
        connection = _Connection(self.socket)
        try:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
            headers = {"Content-Type": kind}
            connection.request(method, f"{path}?{urlencode(query)}", content if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read().decode()
            if response.status >= 300 and response.status != 304:  # 304: it is so already
                raise EngineError(f"{method} {path}: {response.status} {text.strip()}")
            return json.loads(text) if response.headers.get_content_type() == "application/json" and text else text
        finally:
            connection.close()


def _endpoint(ip6: str | None) -> dict[str, Any]:
    return {} if ip6 is None else {"IPAMConfig": {"IPv6Address": ip6}}


def _children(pid: int) -> list[int]:
    """Return the pids of the children of a process, which any of its threads can have started."""
    children = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for each in children for child in each.read_text().split()]


def _innermost(pid: str) -> str:
    """Return the number of a process in the innermost of its namespaces; nothing if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{pid}/status").read_text()
        return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
    return ""


def _last_line(dockerd: Program) -> str:
    return next(reversed(dockerd.lines()), "it said nothing")


def remove_cgroups(name: str) -> None:
    """Remove what is left of an engine's cgroups, in each hierarchy; nothing runs in them any more."""
    for parent in _cgroups(name):
        # From the leaves on.
        for directory, _, _ in os.walk(parent, topdown=False):
            Path(directory).rmdir()


def _cgroups(pattern: str) -> Iterable[Path]:
    # One tree (version 2), or one tree for each controller (version 1).
    return (*CGROUPS.glob(pattern), *CGROUPS.glob(f"*/{pattern}"))


how_dockerd_ends = pytest.mark.parametrize("end", [Engine.stop_engine, Engine.kill_engine], ids=["stopped", "killed"])
"""Decorates what is to be seen whichever way; `end` ends the engine's daemon."""


def sweep() -> None:
    """Remove what the engines of runs that are no more have left: the kernel has ended what ran in them."""
    for path in (*_cgroups("ndpr-*-engine-*"), *Path(tempfile.gettempdir()).glob("ndpr-*-engine-*")):
        if (match := _NAME.match(path.name)) and not Path(f"/proc/{match[1]}").exists():
            with suppress(OSError):
                if path.is_relative_to(CGROUPS):
                    remove_cgroups(path.name)
                else:
                    shutil.rmtree(path)
