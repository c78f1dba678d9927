"""-N through the real program: what an engine's containers hold is answered for, as they come and go."""

import time
from pathlib import Path

import pytest
from fake_engine import Engine
from lab import Program, wait_until
from vectors import advertise
from wire import Wire, event, events

NETWORK = "ipv6exposed"
FIRST, SECOND = "2001:db8::2", "2001:db8::3"
# It is answered whatever the engine says, and marks the end of what is heard.
STATIC = "2001:db8:1::5"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine that does not run yet."""
    return Engine(tmp_path / "docker.sock")


def following(wire: Wire, engine: Engine, *arguments: str) -> Program:
    """Start ndpresponder with the networks of this engine; what it sends are answers only."""
    arguments = *(arguments or ("-N", NETWORK, "-n", STATIC)), "--no-announce"
    return wire.answering(*arguments, environment={"DOCKER_HOST": engine.host})


def messages(program: Program, *words: str) -> list[str]:
    return [line["message"] for line in events(program, *(words or ("network", "engine")))]


def answered(wire: Wire, *targets: str) -> list[bytes]:
    """Return the answers for these targets."""
    wire.forget()
    return wire.ask(*targets, STATIC)[:-1]


def owned(*targets: str) -> list[bytes]:
    """The answers for what is known to live here."""
    return [advertise(target, flags="RSO") for target in targets]


def test_containers_come_and_go(wire: Wire, engine: Engine) -> None:
    engine.create(NETWORK)
    engine.run(NETWORK, "first", FIRST)
    with engine:
        program = following(wire, engine)
        event(program, "network")
        assert answered(wire, FIRST, SECOND) == owned(FIRST)

        engine.run(NETWORK, "second", SECOND)
        event(program, "network", 2)
        assert answered(wire, FIRST, SECOND) == owned(FIRST, SECOND)

        engine.halt(NETWORK, "first")
        event(program, "network", 3)
        assert answered(wire, FIRST, SECOND) == owned(SECOND)
    assert messages(program, "network") == [
        f"network {NETWORK}: 1 address, +{FIRST}",
        f"network {NETWORK}: 2 addresses, +{SECOND}",
        f"network {NETWORK}: 1 address, -{FIRST}",
    ]


def test_alone_it_begins_with_nothing(wire: Wire, engine: Engine) -> None:
    program = following(wire, engine, "-N", NETWORK)

    ready = event(program, "ready")
    assert f" for Docker network {NETWORK} (0 addresses), filter of " in ready["message"]
    assert (ready["prefixes"], ready["networks"]) == (0, {NETWORK: 0})
    assert event(program, "engine")["message"] == (
        f"Docker networks cannot be looked at: no socket at {engine.path}: is an engine running there? "
        "DOCKER_HOST names another (Podman: unix:///run/podman/podman.sock); into a container it has to be mounted"
    )

    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    with engine:
        event(program, "network")
        assert wire.ask(FIRST) == owned(FIRST)
        begun = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - begun < 1


def test_an_engine_that_is_away_changes_nothing(wire: Wire, engine: Engine) -> None:
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    with engine:
        program = following(wire, engine)
        event(program, "network")
    event(program, "engine")
    assert answered(wire, FIRST) == owned(FIRST)

    engine.hold(NETWORK, {"second": SECOND})
    with engine:
        event(program, "engine", 2)
        wait_until(lambda: answered(wire, FIRST, SECOND) == owned(FIRST, SECOND), "both")
    assert program.stop() == 0
