"""The units of systemd, as far as they can be judged without a machine that runs them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from namespaces import run

UNITS = Path(__file__).parents[2] / "packaging/systemd"
NAMES = "ndpresponder.service", "ndpresponder@.service"
# Of 10. What is left is what the program is for: the host's network, by sockets of four families, with one privilege.
MOST_EXPOSED = 1.5

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="not installed: systemd-analyze")


def directives(name: str) -> dict[str, list[str]]:
    lines = re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    return {key: [value for other, value in lines if other == key] for key, _ in lines}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_break_in_could_reach(name: str, tmp_path: Path) -> None:
    # The service of one interface is judged as one that exists.
    unit = tmp_path / name.replace("@", "@eth0")
    shutil.copy(UNITS / name, unit)
    threshold = f"--threshold={MOST_EXPOSED * 10:.0f}"
    run("systemd-analyze", "security", "--offline=yes", threshold, unit)
    rows = json.loads(run("systemd-analyze", "security", "--offline=yes", "--json=short", unit).stdout)
    exposed = {row["name"] for row in rows if row["exposure"] not in {None, "0.0"} and not row["set"]}
    assert exposed == {
        "AmbientCapabilities=",
        "CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)",
        "DeviceAllow=",
        "PrivateNetwork=",
        "PrivateUsers=",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
        "RestrictAddressFamilies=~AF_NETLINK",
        "RestrictAddressFamilies=~AF_PACKET",
        "RestrictAddressFamilies=~AF_UNIX",
        "RootDirectory=/RootImage=",
    }


def test_the_units_differ_in_the_file_that_they_name() -> None:
    one, each = map(directives, NAMES)
    different = {key for key in one | each if one.get(key) != each.get(key)}
    assert different == {"Description", "ConditionPathExists", "ExecStart", "ExecReload"}
    for key in different - {"Description"}:
        assert [value.replace("/%i.toml", "/ndpresponder.toml") for value in each[key]] == one[key]


def test_no_unit_limits_the_cpu() -> None:
    assert [name for name in NAMES if "CPUQuota" in directives(name)] == []
