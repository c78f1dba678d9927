"""The uplink hears all multicast while ndpresponder runs, and not a moment longer."""

from signal import SIGKILL

from lab import ALLMULTI, Lab


def test_all_multicast_ends_with_a_killed_daemon(lab: Lab) -> None:
    before = lab.uplink_flags()
    assert not before & ALLMULTI
    daemon = lab.ndpresponder()

    assert lab.uplink_flags() == before | ALLMULTI

    daemon.process.kill()
    assert daemon.wait() == -SIGKILL
    assert lab.uplink_flags() == before


def test_all_multicast_ends_with_a_stopped_daemon(lab: Lab) -> None:
    before = lab.uplink_flags()
    daemon = lab.ndpresponder()

    assert daemon.stop() == 0
    assert lab.uplink_flags() == before
