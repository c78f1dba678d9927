"""What the tests with a Docker engine share: the lab, the engine on its vps, and ndpresponder beside it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from dockerd import EXPOSED, Engine, EngineError
from lab import Lab, Printing, Program
from sidecar import Sidecar

TOOLS = "busybox", "dockerd", "ebtables-nft", "ip", "nsenter", "ping", "setpriv", "setsid", "sysctl", "unshare"

Start = Callable[..., Printing]


@pytest.fixture(autouse=True, scope="session")
def _requirements(root: None) -> None:  # noqa: ARG001 - skips where root is not to be had
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab that all these tests share."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def running_engine(lab: Lab) -> Iterator[Engine]:
    """The engine that all these tests share, after it has run a container."""
    with ExitStack() as undo:
        try:
            engine = undo.enter_context(Engine(lab.vps))
            engine.create_network(EXPOSED)
            engine.run("first", EXPOSED.name)
        except EngineError as error:
            pytest.skip(f"no Docker engine can be started here: {error}")
        engine.clear()
        yield engine


@pytest.fixture
def engine(lab: Lab, running_engine: Engine) -> Iterator[Engine]:
    """The engine, running, with one network, EXPOSED, and nothing else; and a router that knows no neighbor."""
    lab.forget()
    running_engine.create_network(EXPOSED)
    yield running_engine
    if not running_engine.running:
        running_engine.start_engine()
    running_engine.clear()


@pytest.fixture
def start(request: pytest.FixtureRequest, lab: Lab, engine: Engine) -> Iterator[Start]:
    """Start ndpresponder with these arguments, and wait until it answers: on the vps, or in a container there."""
    with ExitStack() as undo:

        def started(*arguments: str) -> Printing:
            program: Printing
            if getattr(request, "param", "host") == "sidecar":
                program = Sidecar(engine, "-i", "eth0", *arguments)
            else:
                program = undo.enter_context(Program(lab.vps, *engine.ndpresponder(*arguments)))
            program.wait_for('"event": "ready"')
            return program

        yield started
