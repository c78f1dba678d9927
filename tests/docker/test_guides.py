"""The guide for Docker and the quick start, followed to the letter on a vps with a Docker engine."""

import io
import os
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dockerd import Engine, EngineError
from guides import Follower
from lab import CONTAINER, Lab, Ping, wait_until
from namespaces import run
from sidecar import NAME, ROOT, SOCKET, Sidecar, asking, load, service

PAGE = b"from inside\n"
SERVE = 'CMD ["/bin/busybox", "httpd", "-f", "-h", "/", "-p", "[::]:80"]'


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab of its own: the engine makes the network that the stand-in for it would be in the way of."""
    if shutil.which("docker") is None:
        pytest.skip("not installed: docker")
    with Lab(gateway_known=False) as lab:
        lab.vps.ip("link delete docker0")
        yield lab


@pytest.fixture
def engine(lab: Lab) -> Iterator[Engine]:
    with ExitStack() as undo:
        try:
            engine = undo.enter_context(Engine(lab.vps))
        except EngineError as error:
            pytest.skip(f"no Docker engine can be started here: {error}")
        yield engine


def import_image(engine: Engine, directory: Path) -> None:
    """Have an image of the name that the guide uses; no registry is asked."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    with tarfile.open(directory / "image.tar", "w") as tar:
        tar.add(os.path.realpath(busybox), "bin/busybox")
        ping = tarfile.TarInfo("bin/ping")
        ping.type, ping.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(ping)
        page = tarfile.TarInfo("index.html")
        page.size = len(PAGE)
        tar.addfile(page, io.BytesIO(PAGE))
    run("docker", "-H", engine.url, "import", "-c", SERVE, directory / "image.tar", "nginx:alpine")


@pytest.mark.minutes
def test_docker(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    import_image(engine, tmp_path)
    lab.vps.sysctl("net/ipv6/conf/all/forwarding", 0)
    guide = Follower("docker", lab, tmp_path, docker_host=engine.url)
    guide.follow("The network")
    guide.follow("Forwarding")
    assert lab.ping_in(wait=1) == Ping(sent=1, received=0)
    lab.forget()
    guide.follow("The answers")
    guide.daemons[0].wait_for('"event": "network"', CONTAINER)
    assert lab.ping_in(wait=4) == Ping(sent=1, received=1)

    printed = guide.follow("Try it")
    assert "3 packets transmitted, 3 received" in printed
    assert PAGE.decode() in printed
    assert "3 packets transmitted, 3 packets received" in printed
    assert "containers   of the Docker network ipv6exposed\n" in guide.follow("To keep it")
    guide.finish()

    engine.remove("web")
    lab.forget()
    assert lab.ping_in(wait=1) == Ping(sent=1, received=0)
    assert lab.router_neighbor(CONTAINER).get("lladdr") is None


def quick_start() -> list[list[str]]:
    """Return the commands of the README's quick start with Docker."""
    section = (ROOT / "README.md").read_text().partition("### As a container among them\n")[2].partition("\n##")[0]
    lines = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    return [shlex.split(line) for line in lines.replace("\\\n", " ").splitlines()]


def settings(engine: Engine, container: str) -> dict[str, Any]:
    """Return how a container was asked to be run."""
    with asking(engine) as client:
        told = client.inspect_container(container)
    asked = {name: value for name, value in told["HostConfig"].items() if value and name != "LogConfig"}
    # `docker` writes capabilities in another way.
    capabilities = sorted(name.removeprefix("CAP_") for name in asked["CapAdd"])
    return asked | {"CapAdd": capabilities} | {name: told["Config"][name] for name in ("Image", "Cmd")}


@pytest.mark.minutes
def test_the_quick_start_of_the_readme(lab: Lab, engine: Engine, tmp_path: Path) -> None:
    import_image(engine, tmp_path)
    load(engine)
    *commands, build, beside, ping = quick_start()
    # Where the registry and the archive are out of reach it has been built before.
    assert build == ["docker", "build", "-t", "ndpresponder", "-f", "packaging/docker/Dockerfile", "."]
    for words in *commands, [word.replace(SOCKET, str(engine.socket), 1) for word in beside]:
        lab.vps.run("env", f"DOCKER_HOST={engine.url}", *words)
    wait_until(lambda: '"event": "network"' in engine.printed("ndpresponder"), "the network", 20)
    assert "3 packets transmitted, 3 received" in lab.internet.run(*ping).stdout

    # compose.yaml runs the same.
    Sidecar(engine, *service()["command"])
    assert settings(engine, NAME) == settings(engine, "ndpresponder")
