"""The Debian package: built, installed, configured, started, killed, upgraded and purged on a machine with systemd."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_engine import Engine
from lab import wait_until
from machine import Machine
from namespaces import run
from vectors import TARGET, advertise
from wire import PREFIX, Wire

from ndpresponder import __version__

# It takes as long whatever the versions of the libraries: the machine brings its own.
pytestmark = pytest.mark.minutes

FILE = "/etc/ndpresponder/ndpresponder.toml"
UNIT = "ndpresponder.service"
INSTANCE = "ndpresponder@eth0.service"
OTHER = "2001:db8:1::5"
UPGRADE = f"{__version__}+1"
INSTANCE_DROP_IN = "/etc/systemd/system/ndpresponder@.service.d/test.conf"
CONTROL = Path(__file__).parents[2] / "docs/control.md"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/test.conf"
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13  # linux/capability.h


def configuration(*prefixes: str, ifname: str = "eth0") -> str:
    # A list of texts is written alike in both languages.
    return f'[[interface]]\nifname = "{ifname}"\nsubnet = {json.dumps(prefixes)}\n'


def install(machine: Machine, package: Path) -> str:
    """Install a package, and return what that printed."""
    machine.copy(package, f"/root/{package.name}")
    command = "apt-get", "install", "--yes", "--no-install-recommends", f"/root/{package.name}"
    printed = machine.run(*command, timeout=120).stdout
    machine.run("rm", f"/root/{package.name}")
    return printed


def upgraded(package: Path, directory: Path) -> Path:
    """Make a package that is the same but for its version."""
    files = directory / "files"
    run("dpkg-deb", "--raw-extract", package, files)
    for path in (files / "DEBIAN/control", files / "usr/lib/python3/dist-packages/ndpresponder/__init__.py"):
        text = path.read_text()
        assert text.count(__version__) == 1
        path.write_text(text.replace(__version__, UPGRADE))
    made = directory / package.name.replace(__version__, UPGRADE)
    run("dpkg-deb", "--build", files, made)
    return made


def shown(machine: Machine, what: str, unit: str = UNIT) -> str:
    """Return a property of a unit."""
    return machine.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()


def answers(wire: Wire, *targets: str) -> bool:
    """Whether each target is answered for, and rightly; what is left of earlier answers does not count."""
    wire.forget()
    return all(wire.ask(target)[-1] == advertise(target) for target in targets)


def journal(machine: Machine, unit: str = UNIT) -> str:
    return machine.run("journalctl", "--quiet", "--output=cat", f"--unit={unit}").stdout


@contextmanager
def running(machine: Machine, configuration: str, drop_in: str = "") -> Iterator[str]:
    """Run the service with this configuration, and what is added to its unit. Gives its process."""
    machine.write(FILE, configuration)
    machine.write(DROP_IN, drop_in)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", UNIT, timeout=10)
        yield shown(machine, "MainPID")
    finally:
        machine.run("systemctl", "stop", UNIT)
        machine.run("rm", "-r", DROP_IN)
        machine.run("systemctl", "daemon-reload")


def example(machine: Machine, name: str) -> str:
    """Return a drop-in that the package has as an example."""
    return machine.read(f"/usr/share/doc/ndpresponder/examples/{name}.conf")


def privileges(machine: Machine, pid: str) -> set[int]:
    """Return the sets of capabilities of a process, except those that it could inherit."""
    status = status_of(machine, pid)
    return {int(status[which], 16) for which in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}


def quiet(machine: Machine) -> bool:
    """Whether the service has not complained of anything, nor been kept from anything, since it was started last."""
    told = journal(machine).rpartition("Starting ")[2]
    return not any(sign in told for sign in ("warn", "error", "Traceback", "Operation not permitted"))


def leftovers(machine: Machine) -> list[str]:
    """Return all files that have to do with it."""
    kernel = "-path", "/proc", "-prune", "-o", "-path", "/sys", "-prune", "-o"
    return machine.run("find", "/", *kernel, "-name", "*ndpresponder*", "-print").stdout.splitlines()


def status_of(machine: Machine, pid: str) -> dict[str, str]:
    """Return what the kernel tells about a process."""
    return dict(re.findall(r"^(\w+):\s+(.*)$", machine.run("cat", f"/proc/{pid}/status").stdout, re.MULTILINE))


def test_lintian_has_nothing_to_say(package: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("not installed: lintian")
    assert package.name == f"ndpresponder_{__version__}_all.deb"
    assert run("lintian", "--allow-root", "--fail-on=error,warning", package).stdout == ""


@pytest.fixture(scope="module")
def installed(package: Path, tree: Path) -> Iterator[tuple[Machine, Wire]]:
    """A machine with the package on it, and who asks it."""
    with Wire() as wire, Machine(tree, wire.host) as machine:
        install(machine, package)
        yield machine, wire


def test_a_life(package: Path, tree: Path, tmp_path: Path) -> None:
    with Wire() as wire, Machine(tree, wire.host) as machine:
        # Installed, and told what comes next: there is nothing to answer yet.
        assert f"Name the uplink and the prefixes in {FILE}" in install(machine, package)
        assert (shown(machine, "ActiveState"), shown(machine, "UnitFileState")) == ("inactive", "disabled")
        machine.run("systemctl", "start", UNIT)
        assert shown(machine, "ActiveState") == "inactive"
        assert f"ConditionPathExists={FILE}" in machine.run("systemctl", "status", UNIT, check=False).stdout

        # What the shells ask.
        ask = ". /usr/share/bash-completion/completions/ndpresponder; _ndpresponder_completion ndpresponder"
        words = "COMP_WORDS=(ndpresponder --docker-u); COMP_CWORD=1"
        assert machine.run("bash", "-c", f"{words}; {ask}; echo ${{COMPREPLY[@]}}").stdout == "--docker-unique-local\n"
        files = machine.run("dpkg", "--listfiles", "ndpresponder").stdout.splitlines()
        assert "/usr/share/zsh/vendor-completions/_ndpresponder" in files
        assert "/usr/share/fish/vendor_completions.d/ndpresponder.fish" in files

        # Configured and started.
        machine.write(FILE, configuration(PREFIX))
        assert PREFIX in machine.run("ndpresponder", "check").stdout
        machine.run("systemctl", "enable", "--now", UNIT)
        assert answers(wire, TARGET)
        assert shown(machine, "StatusText").startswith(f"answering on eth0 for {PREFIX}; answered ")
        first = shown(machine, "MainPID")

        # Reloaded: what the file says now, or, where it is wrong, what it said before.
        machine.write(FILE, configuration(PREFIX, OTHER))
        machine.run("systemctl", "reload", UNIT)
        wait_until(lambda: wire.is_answered(OTHER), "an answer for what was added")
        machine.write(FILE, configuration("2001:db8::/129"))
        assert machine.run("systemctl", "reload", UNIT, check=False).returncode != 0
        assert f"{FILE}:3: " in journal(machine)
        assert answers(wire, TARGET, OTHER)
        assert (shown(machine, "MainPID"), shown(machine, "ActiveState")) == (first, "active")
        machine.write(FILE, configuration(PREFIX))

        # Beside it, a daemon for an interface by itself.
        machine.write("/etc/ndpresponder/eth0.toml", configuration(OTHER))
        machine.run("systemctl", "enable", "--now", INSTANCE)
        assert answers(wire, TARGET, OTHER)
        before = {shown(machine, "MainPID", unit) for unit in (UNIT, INSTANCE)}

        # Upgraded.
        assert f"ndpresponder, version {__version__}" in machine.run("ndpresponder", "--version").stdout
        assert "ndpresponder answers nothing yet" not in install(machine, upgraded(package, tmp_path))
        assert f"ndpresponder, version {UPGRADE}" in machine.run("ndpresponder", "--version").stdout
        assert answers(wire, TARGET, OTHER)
        assert before.isdisjoint({shown(machine, "MainPID", unit) for unit in (UNIT, INSTANCE)})
        assert shown(machine, "UnitFileState") == "enabled"

        # Removed, and purged.
        machine.run("apt-get", "remove", "--yes", "ndpresponder")
        wire.forget()
        assert not wire.is_answered(TARGET)
        assert not wire.is_answered(OTHER)
        assert machine.read(FILE) == configuration(PREFIX)
        machine.run("apt-get", "purge", "--yes", "ndpresponder")
        assert leftovers(machine) == []
        assert machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ndpresponder*").stdout == ""


@pytest.mark.alone
def test_killed_it_answers_again_within_two_seconds(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    with running(machine, configuration(PREFIX)):
        assert answers(wire, TARGET)
        machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
        killed = time.monotonic()
        wait_until(lambda: wire.is_answered(TARGET), "an answer after the end")
        took = time.monotonic() - killed
        assert shown(machine, "NRestarts") == "1"
        assert took < 2


def test_confined(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    # Inside of the prefix: only the process that takes snapshots can know.
    own = "2001:db8::77"
    wire.host.ip(f"address add {own}/64 dev eth0")
    with running(machine, configuration(PREFIX)) as pid:
        wait_until(lambda: f"not answering for {own}" in journal(machine), "a snapshot")
        status = status_of(machine, pid)
        assert status["Uid"].split()[0] not in {"0", "65534"}
        assert privileges(machine, pid) == {NET_RAW}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert answers(wire, TARGET)
        assert quiet(machine)
        # The daemon's own user made the socket, and root can ask.
        told = json.loads(machine.run("ndpresponder", "status", "-j").stdout)
        assert (str(told["process"]), told["file"]) == (pid, FILE)
        assert [each["answered"] for each in told["interfaces"]] == [1]
    assert machine.run("ndpresponder", "status", check=False).returncode == 1


def test_a_reload_that_the_daemon_refuses(installed: tuple[Machine, Wire]) -> None:
    """Nothing is wrong with the file, but what it says cannot be done."""
    machine, wire = installed
    with running(machine, configuration(PREFIX)) as pid:
        machine.write(FILE, configuration(OTHER) + configuration(OTHER, ifname="eth7") + "wait = false\n")
        assert machine.run("systemctl", "reload", UNIT, check=False).returncode != 0
        assert f"ndpresponder: process {pid} goes on as before: eth7: No such device; there are: " in journal(machine)
        assert shown(machine, "StatusText").startswith("not reloaded: eth7: No such device; there are: ")
        assert answers(wire, TARGET)

        machine.write(FILE, configuration(OTHER))
        machine.run("systemctl", "reload", UNIT)
        assert shown(machine, "StatusText").startswith(f"answering on eth0 for {OTHER}/128; answered ")
        assert (shown(machine, "MainPID"), shown(machine, "ActiveState")) == (pid, "active")


def test_it_may_write_the_entry_of_the_gateway(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    with running(machine, configuration(PREFIX), example(machine, "gateway")) as pid:
        assert privileges(machine, pid) == {NET_ADMIN | NET_RAW}
        assert answers(wire, TARGET)
        assert quiet(machine)


def fails_for_good(machine: Machine, configuration: str) -> str:
    """Start the service, which fails and is not tried again, and return what was said."""
    machine.write(FILE, configuration)
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    # If it were tried again, it would be activating by now, or in half a second.
    assert (shown(machine, "ActiveState"), shown(machine, "ExecMainStatus")) == ("failed", "2")
    machine.run("systemctl", "reset-failed", UNIT)
    return journal(machine).rpartition("Starting ")[2]


def test_not_an_ethernet_interface(installed: tuple[Machine, Wire]) -> None:
    machine, _ = installed
    told = fails_for_good(machine, configuration(PREFIX) + configuration(OTHER, ifname="lo"))
    assert "lo is not an Ethernet interface: " in told


def test_metrics_on_a_loopback_address(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    metrics = f'metrics = "127.0.0.1:9108"\n{configuration(PREFIX)}'
    assert "metrics need the Prometheus client for Python: " in fails_for_good(machine, metrics)
    assert machine.run("ndpresponder", "check", check=False).returncode == 2
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "python3-prometheus-client", timeout=120)
    assert "needs the drop-in metrics.conf, see docs/metrics.md" in fails_for_good(machine, metrics)
    fetch = "import sys, urllib.request as http; print(http.urlopen(sys.argv[1], timeout=5).read().decode())"
    for endpoint in ("127.0.0.1:9108", "[::1]:9108"):
        metrics = f'metrics = "{endpoint}"\n{configuration(PREFIX)}'
        with running(machine, metrics, example(machine, "metrics")):
            assert answers(wire, TARGET)
            wait_until(lambda: "metrics are at " in journal(machine).rpartition("Starting ")[2], "metrics")
            told = machine.run("python3", "-c", fetch, f"http://{endpoint}/metrics").stdout
            assert 'ndpresponder_interface_up{interface="eth0"} 1.0' in told.splitlines()
            assert quiet(machine)


def test_a_docker_network(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "python3-docker", timeout=120)
    machine.run("groupadd", "--force", "docker")
    follow = '[[interface]]\nifname = "eth0"\ndocker-network = "web"\n'
    with Engine(machine.outside("/run/docker.sock")) as engine:
        # As dockerd does it.
        machine.run("chown", "root:docker", "/run/docker.sock")
        machine.run("chmod", "660", "/run/docker.sock")
        engine.create("web")
        engine.run("web", "one", TARGET)
        with running(machine, follow, example(machine, "docker")):
            wait_until(lambda: wire.is_answered(TARGET), "an answer for the container")
            engine.halt("web", "one")
            wait_until(lambda: not wire.is_answered(TARGET), "silence")
            assert quiet(machine)


def test_a_group_can_ask(installed: tuple[Machine, Wire]) -> None:
    """As docs/control.md says, with a unit beside it that ends."""
    machine, wire = installed
    document = CONTROL.read_text()
    [useradd] = re.findall(r"^    (useradd .*)$", document, re.MULTILINE)
    [drop_in] = re.findall(r"^    (\[Service\]\n(?:    .*\n)+)", document, re.MULTILINE)
    ask, as_user = ("ndpresponder", "status", "-j"), ("setpriv", "--reuid=12345", "--clear-groups")
    grouped = f'control-group = "adm"\n{configuration(PREFIX)}'

    def asked() -> set[str]:
        lines = machine.run(*as_user, "--regid=adm", *ask).stdout.splitlines()
        return {str(json.loads(line)["process"]) for line in lines}

    machine.run(*useradd.split())
    machine.write("/etc/ndpresponder/eth0.toml", grouped)
    machine.write(INSTANCE_DROP_IN, drop_in)
    try:
        with running(machine, grouped, drop_in) as pid:
            machine.run("systemctl", "start", INSTANCE, timeout=10)
            assert asked() == {pid, shown(machine, "MainPID", INSTANCE)}
            machine.run("systemctl", "stop", INSTANCE)
            assert asked() == {pid}
            machine.run("systemctl", "reload", UNIT)
            assert "permission denied" in machine.run(*as_user, "--regid=12345", *ask, check=False).stderr
            assert answers(wire, TARGET)
            assert quiet(machine)
    finally:
        machine.run("rm", INSTANCE_DROP_IN)
        machine.run("systemctl", "stop", INSTANCE)
        machine.run("systemctl", "daemon-reload")
        machine.run("userdel", "ndpresponder")


def test_a_frame_loop_that_hangs_is_started_again(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    hangs = "import time, ndpresponder.responder as room; room.answer = lambda *_: time.sleep(3600)"
    machine.write("/opt/hangs", f"{hangs}\nfrom ndpresponder.cli import main\nmain()\n")
    hanging = f"[Service]\nWatchdogSec=2\nExecStart=\nExecStart=/usr/bin/python3 /opt/hangs -c {FILE}\n"
    with running(machine, configuration(PREFIX), hanging):
        assert not wire.is_answered(TARGET)
        wait_until(lambda: shown(machine, "NRestarts") == "1", "a new start", timeout=20)
        assert "Watchdog timeout" in machine.run("journalctl", "--output=cat", f"UNIT={UNIT}").stdout


def test_a_start_does_not_wait_for_an_interface(installed: tuple[Machine, Wire]) -> None:
    machine, wire = installed
    with running(machine, configuration(PREFIX, ifname="late")):
        assert shown(machine, "StatusText").startswith("waiting for late: No such device")
        for change in ("eth0 down", "eth0 name late", "late up"):
            wire.host.ip(f"link set {change}")
        wire.forget()
        wait_until(lambda: wire.is_answered(TARGET), "an answer after all")
        assert shown(machine, "NRestarts") == "0"
