"""Killed at random moments, started once more and stopped: nothing is left on the host."""

import sys
import time
from random import Random
from signal import SIGKILL

import pytest
from lab import CONTAINER, GUEST_PREFIX, VPS, Lab, Ping, wait_until


def traces(lab: Lab) -> tuple[int, str, str]:
    """Return what the daemon changes on the vps: the uplink's flags and groups, the neighbor entries it has written."""
    groups = lab.vps.ip("maddr show dev eth0")
    return lab.uplink_flags(), groups, lab.vps.ip("-6 neighbor show protocol 135")


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_left_behind(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    with Lab(gateway_known=False) as lab:
        # Without a global address on the uplink, the gateway's entry must be written.
        lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
        before = traces(lab)
        for _ in range(10):
            command = "-m", "ndpresponder", "-i", "eth0", "-n", CONTAINER, "--log-format", "json"
            with_traffic = lab.start(lab.container, "ping", "-6", "-n", "-q", "-i", "0.1", "-w", "20", VPS)
            killed = lab.start(lab.vps, sys.executable, *command)
            # Any moment, from before the first line of Python to after the gateway has been found.
            time.sleep(random.uniform(0, 2))
            killed.process.send_signal(SIGKILL)
            assert killed.wait() == -SIGKILL
            with_traffic.process.kill()
            with_traffic.wait()
        daemon = lab.ndpresponder("-n", CONTAINER)
        lab.forget()
        wait_until(lambda: lab.ping_in(wait=0.2).received == 1, "a reply")
        assert lab.ping_in() == Ping(sent=1, received=1)
        assert daemon.stop() == 0

        assert traces(lab) == before
