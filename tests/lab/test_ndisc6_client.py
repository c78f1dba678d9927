"""What ndisc6, a neighbor discovery client that knows nothing of this project, hears from the vps."""

import pytest
from lab import CONTAINER, INNER_GATEWAY, INNER_PREFIX, SOLICITATIONS_AND_ADVERTISEMENTS, VPS, VPS_MAC, Lab
from namespaces import Namespace

EXCLUDED_PREFIX = "2001:db8:1::d0f0/124"


def ask(host: Namespace, interface: str, address: str) -> str:
    """Let ndisc6 solicit once and listen for half a second; return what it printed after its first line."""
    words = f"ndisc6 -n -v -m -r 1 -w 500 {address} {interface}".split()
    first, _, rest = host.run(*words, check=False).stdout.partition("\n")
    assert first == f"Soliciting {address} ({address}) on {interface}..."
    return rest


def answer_from(address: str) -> str:
    return f"Target link-layer address: {VPS_MAC}\n from {address}\n"


SILENCE = "Timed out.\nNo response.\n"


@pytest.mark.parametrize("address", [CONTAINER, INNER_GATEWAY, "2001:db8:1::d0ff"])
def test_an_address_inside_the_prefix_is_answered_once(lab: Lab, address: str) -> None:
    lab.ndpresponder()

    assert ask(lab.router, "lan", address) == answer_from(address)


def test_another_host_on_the_link_is_answered_too(lab: Lab, neighbor: Namespace) -> None:
    lab.ndpresponder()

    assert ask(neighbor, "eth0", CONTAINER) == answer_from(CONTAINER)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("2001:db8:1::d0f3", id="excluded"),
        pytest.param("2001:db8:1::d000", id="subnet-router-anycast"),
        pytest.param("2001:db8:1::d100", id="just-outside"),
        pytest.param("2001:db8:3::d003", id="elsewhere"),
    ],
)
def test_other_addresses_are_not_answered(lab: Lab, address: str) -> None:
    lab.ndpresponder("-n", str(INNER_PREFIX), "-x", EXCLUDED_PREFIX)

    assert ask(lab.router, "lan", address) == SILENCE
    assert ask(lab.router, "lan", CONTAINER) == answer_from(CONTAINER)


def test_the_uplinks_own_address_is_left_to_the_kernel(lab: Lab) -> None:
    daemon = lab.ndpresponder("-n", "2001:db8:1::/112")
    daemon.wait_for('"event": "owned"', VPS)
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS, "-v")

    assert ask(lab.router, "lan", VPS) == answer_from(VPS)
    assert ask(lab.router, "lan", "2001:db8:1::4") == answer_from("2001:db8:1::4")

    # The kernel overrides for an address of its own, ndpresponder does not for an address in a prefix.
    [kernels] = capture.lines("neighbor advertisement", f"tgt is {VPS},")
    assert kernels.endswith("Flags [router, solicited, override]")
    [ours] = capture.lines("neighbor advertisement", "tgt is 2001:db8:1::4,")
    assert ours.endswith("Flags [router, solicited]")
    assert daemon.stop() == 0
    assert '"answered": 1,' in daemon.wait_for('"event": "stopped"')
