"""-N through the real program: what an engine's containers hold is answered for, as they come and go."""

import socket
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


# Run in a mount namespace of its own, as a container has: the socket's file is mounted where the program looks for it.
_MOUNTED = 'touch "$2" && mount --bind "$1" "$2" && shift 2 && exec "$@"'


def mounted(wire: Wire, engine: Engine, tmp_path: Path) -> Program:
    """Start ndpresponder with the engine's socket mounted, and wait until it knows what is there."""
    at = tmp_path / "mounted.sock"
    command = (
        "env",
        f"DOCKER_HOST=unix://{at}",
        *wire.command("-i", "eth0", "-N", NETWORK, "-n", STATIC, "--no-announce"),
    )
    program = Program(
        wire.host, "unshare", "--mount", "sh", "-c", _MOUNTED, "mounted", str(engine.path), str(at), *command
    )
    event(program, "network")
    return program


def test_a_mounted_socket_that_was_made_anew_ends_it(wire: Wire, engine: Engine, tmp_path: Path) -> None:
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    with wire.host.entered(), engine, mounted(wire, engine, tmp_path) as program:
        engine.stop()
        program.wait_for(f"nobody listens on {tmp_path}/mounted.sock: the engine is not running")
        # It is not up to whether the file is there: as long as there is no engine, nobody could start it again.
        assert answered(wire, FIRST) == owned(FIRST)

        engine.start()
        assert program.wait() == 1
        assert events(program)[-1]["message"] == (
            f"the engine has made its socket anew, and the mounted {tmp_path}/mounted.sock is the old one: ending, so "
            "that a restart mounts it again (mount its directory instead, and this is not needed)"
        )


@pytest.mark.parametrize("killed", [False, True])
def test_a_mounted_socket_whose_engine_is_away_does_not_end_it(
    wire: Wire, engine: Engine, tmp_path: Path, *, killed: bool
) -> None:
    """Nor does another engine that listens elsewhere on a socket with the same name."""
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    (tmp_path / "other").mkdir()
    with (
        wire.host.entered(),
        engine,
        Engine(tmp_path / "other" / "docker.sock"),
        mounted(wire, engine, tmp_path) as program,
    ):
        engine.stop(killed=killed)
        program.wait_for(f"nobody listens on {tmp_path}/mounted.sock: the engine is not running")
        assert answered(wire, FIRST) == owned(FIRST)
        assert program.stop() == 0


def test_a_mounted_directory_shows_a_socket_that_was_made_anew(wire: Wire, engine: Engine, tmp_path: Path) -> None:
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    at = tmp_path / "mounted"
    at.mkdir()
    engine.path = tmp_path / "run" / "docker.sock"
    engine.path.parent.mkdir()
    mount = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && shift 2 && exec "$@"'
    inside = ("unshare", "--mount", "sh", "-c", mount, "mounted", str(engine.path.parent), str(at))
    command = (
        "env",
        f"DOCKER_HOST=unix://{at}/docker.sock",
        *wire.command("-i", "eth0", "-N", NETWORK, "--no-announce"),
    )
    with wire.host.entered(), engine, Program(wire.host, *inside, *command) as program:
        event(program, "network")
        engine.stop()
        event(program, "engine")
        engine.hold(NETWORK, {"second": SECOND})
        engine.start()
        event(program, "network", 2)
        assert wire.ask(FIRST, SECOND) == owned(FIRST, SECOND)
        assert program.stop() == 0


def test_an_sdk_that_is_broken(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "docker.py").write_text("raise ImportError('no urllib3')\n")
    broken = f"import sys; sys.path.insert(0, '{tmp_path}'); from ndpresponder import cli; cli.main()"
    program = wire.start("-c", broken, "-i", "eth0", "-N", NETWORK, "--no-announce")
    assert program.wait() == 1
    assert events(program)[-1]["message"] == "the Docker SDK for Python cannot be used: no urllib3"


def test_without_permission(wire: Wire, engine: Engine) -> None:
    with engine:
        engine.path.chmod(0)
        # Root as in a sidecar, with hardly a capability.
        command = ("env", f"DOCKER_HOST={engine.host}", *wire.command("-i", "eth0", "-N", NETWORK, "--no-announce"))
        with Program(wire.host, "setpriv", "--bounding-set", "-dac_override", *command) as program:
            reason = event(program, "engine")["reason"]
    assert reason == f"no permission on {engine.path}: run as root, or as a member of its group"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("pigeon://web", "Invalid bind address protocol: pigeon://web"),
        ("tcp://127.0.0.1:1", "nobody listens on tcp://127.0.0.1:1: the engine is not running"),
        ("tcp://192.0.2.1:2375", "tcp://192.0.2.1:2375 cannot be reached: Network is unreachable"),
    ],
)
def test_another_engine(wire: Wire, host: str, reason: str) -> None:
    program = wire.answering("-N", NETWORK, environment={"DOCKER_HOST": host})
    assert event(program, "engine")["reason"] == reason
    assert program.stop() == 0


def test_what_the_uplink_itself_holds_is_left_to_it(wire: Wire, engine: Engine) -> None:
    wire.host.ip(f"address add {FIRST}/128 dev eth0")
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST, "second": SECOND})
    with engine:
        program = following(wire, engine)
        event(program, "network")
        # Known a moment later. The kernel answers too, and does not say that it is a router.
        wait_until(lambda: owned(FIRST)[0] not in answered(wire, FIRST), "silence")
        assert answered(wire, SECOND) == owned(SECOND)


def test_groups_are_joined_and_left(wire: Wire, engine: Engine) -> None:
    engine.create(NETWORK)
    with engine:
        program = following(wire, engine)
        event(program, "network")
        group = "ff02::1:ff00:2"
        engine.run(NETWORK, "first", FIRST)
        event(program, "network", 2)
        assert group in wire.host.ip("-6 maddress show dev eth0")
        engine.halt(NETWORK, "first")
        event(program, "network", 3)
        assert group not in wire.host.ip("-6 maddress show dev eth0")


def test_unique_local_addresses(wire: Wire, engine: Engine) -> None:
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": "fd00::2"})
    with engine:
        without = following(wire, engine)
        event(without, "network", 2)
        assert answered(wire, "fd00::2") == []
        assert without.stop() == 0
        with_them = following(wire, engine, "-N", NETWORK, "-n", STATIC, "--docker-unique-local")
        event(with_them, "network")
        assert answered(wire, "fd00::2") == owned("fd00::2")
    assert messages(without, "network") == [
        f"network {NETWORK}: 0 addresses",
        (
            f"network {NETWORK}: unique-local addresses are not answered for, 1 at present "
            "(--docker-unique-local answers for them too)"
        ),
    ]
    assert messages(with_them, "network") == [f"network {NETWORK}: 1 address, +fd00::2"]


def test_an_engine_that_never_replies_delays_nothing(wire: Wire, engine: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(engine.path))
        silent.listen()
        silent.settimeout(5)
        program = following(wire, engine)
        connection, _ = silent.accept()
        with connection:
            assert wire.ask(STATIC) == [advertise(STATIC)]
            begun = time.monotonic()
            assert program.stop() == 0
            assert time.monotonic() - begun < 2


def test_ready_counts_what_containers_hold(wire: Wire, engine: Engine) -> None:
    engine.create(NETWORK)
    engine.hold(NETWORK, {"first": FIRST})
    with engine:
        program = following(wire, engine, "-N", NETWORK, "-x", SECOND)
        event(program, "network")
        wire.host.ip("link set eth0 down")
        wire.host.ip("link set eth0 up")
        ready = event(program, "ready", 2)
        assert f" for Docker network {NETWORK} (1 address), " in ready["message"]
        engine.run(NETWORK, "second", SECOND)
        engine.run(NETWORK, "third", "2001:db8::4")
        wait_until(lambda: wire.is_answered("2001:db8::4"), "the third")
        wire.forget()
        # What is excluded is not answered for, whoever holds it.
        assert wire.ask(FIRST, SECOND, "2001:db8::4")[-1] == owned("2001:db8::4")[0]
        wire.forget()
        assert wire.ask(SECOND, FIRST) == owned(FIRST)
