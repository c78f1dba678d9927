"""The image of ndpresponder, built as users do, and a container of it, run as packaging/docker/compose.yaml says."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import docker
import pytest
import yaml
from dockerd import HANDS_OFF, Engine, EngineError, ThisMachine
from lab import Printing
from namespaces import run

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging/docker"
IMAGE = "ndpresponder"
NAME = "sidecar"
SOCKET = "/run/docker.sock"
DIRECTORY = "/run/engine"
"""Where the directory of the engine's socket is mounted, in place of the socket."""

on_the_host_and_as_a_sidecar = pytest.mark.parametrize(
    "start", ["host", pytest.param("sidecar", marks=pytest.mark.minutes)], indirect=True
)
"""Decorates what is to be seen with either of them; otherwise `start` starts ndpresponder on the host."""

_SUITE = "bookworm"
_PROXIES = "http_proxy", "https_proxy", "no_proxy"
# What Debian's slim images leave out, too.
_LEFT_OUT = "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"
_PATIENCE = 300.0


@contextmanager
def asking(engine: Engine) -> Iterator[Any]:
    """Ask an engine with the SDK."""
    client = docker.APIClient(base_url=engine.url, version="auto", timeout=_PATIENCE)
    try:
        yield client
    finally:
        client.close()


def image() -> Path:
    """Return an archive of the image of this tree, as `docker save` writes it. It is made once for all that ask."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with (build / "sidecar.lock").open("w") as lock:
        # Of those that run at the same time, one makes it.
        flock(lock, LOCK_EX)
        archive = build / f"sidecar-{_fingerprint()}.tar"
        if not archive.exists():
            for old in build.glob("sidecar-*.tar"):
                old.unlink()
            with TemporaryDirectory(dir=build) as directory:
                unfinished = Path(directory) / "image"
                _build(_base(build), unfinished)
                unfinished.rename(archive)
    return archive


def _fingerprint() -> str:
    """Return what changes with each file that the image is made from."""
    names = ".dockerignore", "packaging/docker/Dockerfile", "pyproject.toml"
    files = [ROOT / name for name in names] + sorted(ROOT.glob("ndpresponder/*.py"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _base(build: Path) -> Path:
    """Return an archive of a small Debian's files, which stands in for the base image where there is no registry."""
    archive = build / f"base-{_SUITE}.tar"
    if not archive.exists():
        with TemporaryDirectory(dir=build) as directory:
            # How this machine reaches Debian's archive.
            configuration = Path(directory) / "apt.conf"
            configuration.write_text(run("apt-config", "dump", "Acquire").stdout)
            unfinished = Path(directory) / "base.tar"
            run(
                # What it leaves behind when it is interrupted goes, too.
                *("env", f"TMPDIR={directory}"),
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--aptopt={configuration}"),
                # For itself: the Dockerfile is to say so too.
                "--aptopt=APT::Install-Recommends no",
                "--customize-hook=sed -i /Recommends/d $1/etc/apt/apt.conf.d/99mmdebstrap",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
                "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                *(_SUITE, unfinished),
                timeout=_PATIENCE,
            )
            unfinished.rename(archive)
    return archive


def _build(base: Path, archive: Path) -> None:
    """Build the image, and write it into a file."""
    # Where there is an archive to install from.
    with Engine(ThisMachine(), flags=HANDS_OFF) as engine, asking(engine) as client:
        client.import_image(src=str(base), repository="base")
        steps = client.build(
            path=str(ROOT),
            dockerfile="packaging/docker/Dockerfile",
            tag=IMAGE,
            buildargs={"BASE": "base"} | {name: os.environ[name] for name in _PROXIES if name in os.environ},
            network_mode="host",
            forcerm=True,
            decode=True,
        )
        said = ""
        for step in steps:
            if "error" in step:
                raise EngineError(f"{said}{step['error']}")
            said += step.get("stream", "")
        with archive.open("wb") as file:
            file.writelines(client.get_image(IMAGE))


def load(engine: Engine) -> None:
    """Give an engine the image, if it does not have it. Skips where there is nothing to make it with."""
    if missing := [tool for tool in ("apt-config", "mmdebstrap") if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with asking(engine) as client:
        if not client.images(IMAGE):
            with image().open("rb") as archive:
                client.load_image(archive)


def service() -> dict[str, Any]:
    """Return how compose.yaml has the container run."""
    [(_, service)] = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"].items()
    return dict(service)


class Sidecar(Printing):
    """A container of the image, run as compose.yaml says, on the host that an engine is on."""

    def __init__(self, engine: Engine, *arguments: str, health: dict[str, Any] | None = None, **changed: Any) -> None:
        """Run it with these arguments; `changed` is for keys of compose.yaml, `health` for the image's check."""
        self.command = f"{IMAGE} {' '.join(arguments)}"
        self._engine = engine
        load(engine)
        # Each key has to be known here, or it would say what nobody has tried.
        how = service() | changed
        del how["build"]
        with asking(engine) as client:
            configuration = client.create_host_config(
                network_mode=how.pop("network_mode"),
                binds=[each.replace(SOCKET, str(engine.socket), 1) for each in how.pop("volumes")],
                restart_policy={"Name": how.pop("restart")},
                read_only=how.pop("read_only"),
                cap_drop=how.pop("cap_drop"),
                cap_add=how.pop("cap_add"),
                security_opt=how.pop("security_opt"),
                mem_limit=how.pop("mem_limit"),
                pids_limit=how.pop("pids_limit"),
                cpu_shares=how.pop("cpu_shares"),
            )
            del how["command"]
            client.create_container(
                how.pop("image"),
                list(arguments),
                name=NAME,
                environment=how.pop("environment", None),
                host_config=configuration,
                healthcheck=health,
            )
            if how:
                raise ValueError(f"{PACKAGING / 'compose.yaml'}: what is {', '.join(how)}?")
            client.start(NAME)

    def printed(self) -> str:
        """Return all that it has printed so far, in all its lives."""
        return self._engine.printed(NAME)

    def exit_code(self) -> int | None:
        """Return None: it is started again."""
        return None

    def told(self) -> dict[str, Any]:
        """Return what the engine tells about it."""
        with asking(self._engine) as client:
            return dict(client.inspect_container(NAME))

    def healthy(self) -> str:
        """Return what its health check has found: starting, healthy or unhealthy."""
        return str(self.told()["State"]["Health"]["Status"])

    @property
    def process(self) -> int:
        """The pid of its first process, as this process sees it."""
        return self._engine.process(NAME)
