"""Shows, in the lab and in plain words, what keeps a container from being reached, and what ndpresponder changes.

The showing is done by a child process. This one only waits, for the child or for a signal, and clears up after it: so
nothing is left behind whenever and however the demo ends.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from ipaddress import IPv6Address

from lab import (
    CONTAINER,
    GUEST_PREFIX,
    INNER_PREFIX,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS,
    Lab,
    Ping,
    Program,
    wait_until,
)
from namespaces import sweep

WAKING = {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
PR_SET_CHILD_SUBREAPER = 36

BOLD, DIM, RED, GREEN = "1", "2", "31", "32"
COLOR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

ALL_LOST = Ping(sent=3, received=0)
ALL_ANSWERED = Ping(sent=3, received=3)


class UnexpectedError(Exception):
    """Something did not go as the demo says it does."""


def expect(as_said: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence: expect(this, otherwise that)
    """Go on only if it went as said."""
    if not as_said:
        raise UnexpectedError(otherwise)


def paint(style: str, text: str) -> str:
    """Return the text in a style, where there are styles."""
    return f"\033[{style}m{text}\033[0m" if COLOR else text


def say(text: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201 - this is what the demo is for


def say_literally(text: str) -> None:
    """Print what is not prose: a frame in tcpdump's wording, a command."""
    say(paint(DIM, f"      {text}"))


def say_ping(ping: Ping) -> None:
    """Print what became of a ping."""
    outcome = f"{ping.received} of {ping.sent} answered"
    say(f"   The internet pings {CONTAINER}: {paint(GREEN if ping.received else RED, outcome)}.")


def main() -> int:
    """Let a child show the demo, and clear up when it ends or when a signal comes."""
    if os.geteuid() != 0:
        say("The demo makes network namespaces, for which it must be run as root.")
        return 1
    # What the child has started becomes ours when the child dies, so that its end can be awaited.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKING)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAKING)
        return show()
    # Both do it: whoever comes first, the group is there for the other. A Ctrl-C is for this process alone.
    os.setpgid(child, child)

    exit_code = await_end(child)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    sweep()
    return exit_code


def await_end(child: int) -> int:
    """Wait for the child or for a signal, whichever comes first, and return the exit code that tells which."""
    while (woken_by := signal.sigwait(WAKING)) == signal.SIGCHLD:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    return 128 + woken_by


def show() -> int:
    """Show the three steps; return 0 when each went as it should, else say what did not and return 1."""
    try:
        introduce()
        with Lab() as lab:
            show_silence(lab)
            show_ndppd(lab)
            show_ndpresponder(lab)
    except (UnexpectedError, RuntimeError, TimeoutError, OSError) as error:
        say()
        say(paint(RED, "Not as it should be: ") + str(error))
        return 1
    say(paint(GREEN, "All three went as they should."))
    return 0


def introduce() -> None:
    """Say what there is."""
    say(f"""\
{paint(BOLD, "A virtual KVM host, in network namespaces of this machine")}

      internet -- router -- hypervisor -- vps -- container

   The provider's router has {GUEST_PREFIX} on its link: before it delivers a packet to an
   address in there, it asks the link who has it. The vps holds {VPS}, and forwards
   {INNER_PREFIX} to its container, {CONTAINER}. Guests shall not pose as others,
   so the hypervisor drops what the vps sends from any other address:
""")
    say_literally(f"ebtables-nft -A FORWARD -i guest -p IPv6 --ip6-src ! {GUEST_PREFIX} -j DROP")
    say()


def show_silence(lab: Lab) -> None:
    """Step 1: nobody answers the router."""
    say(paint(BOLD, "1. With nothing"))
    link = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    ping = lab.ping_in(count=3, wait=1)
    say_ping(ping)
    expect(ping == ALL_LOST, "the container answers already")
    questions = solicitations(link)
    expect(bool(questions), "the router did not ask for the container")
    say("   On the router's link, this question, again and again, and no answer:")
    say_literally(questions[0])
    expect(not advertisements(link), "somebody answered the router")
    say("   The vps would forward to the container, but its kernel answers only for what it holds itself.\n")


def show_ndppd(lab: Lab) -> None:
    """Step 2: ndppd answers, and the hypervisor drops the answer."""
    say(paint(BOLD, "2. With ndppd on the vps"))
    lab.forget()
    port = lab.capture(lab.hypervisor, "guest", SOLICITATIONS_AND_ADVERTISEMENTS)
    link = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    daemon = lab.ndppd()
    ping = lab.ping_in(count=3, wait=1)
    say_ping(ping)
    expect(ping == ALL_LOST, "ndppd was enough")
    expect(bool(advertisements(port)), "ndppd did not answer")
    answer = advertisements(port)[0]
    say("   On the hypervisor's port to the vps, the question, and now an answer:")
    say_literally(solicitations(port)[0])
    say_literally(answer)
    expect(not advertisements(link), "ndppd's answer reached the router")
    say("   On the router's link, the question only: the hypervisor dropped the answer.")
    expect(source(answer) not in GUEST_PREFIX, "ndppd's answer comes from the guest's prefix")
    daemon.process.kill()
    daemon.wait()
    wait_until(lambda: lab.dropped("advertisements") == len(advertisements(port)), "the counter tells of each answer")
    say(f"   Why: it was sent from {source(answer)}, the vps' link-local address, which is not in")
    say(f"   {GUEST_PREFIX}. The rule's counter: {lab.dropped('advertisements')} advertisements dropped.\n")


def show_ndpresponder(lab: Lab) -> None:
    """Step 3: ndpresponder's answer passes."""
    say(paint(BOLD, "3. With ndpresponder on the vps"))
    lab.forget()
    dropped_before = lab.dropped("advertisements")
    link = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    lab.ndpresponder()
    ping = lab.ping_in(count=3)
    say_ping(ping)
    expect(ping == ALL_ANSWERED, "the container is not reached")
    expect(bool(advertisements(link)), "the container is reached, but not for an answer of ndpresponder's")
    answer = advertisements(link)[0]
    say("   On the router's link, the question, and the answer that made the difference:")
    say_literally(solicitations(link)[0])
    say_literally(answer)
    expect(source(answer) == IPv6Address(CONTAINER), "the answer does not come from the address that it is about")
    expect(lab.dropped("advertisements") == dropped_before, "the hypervisor dropped an answer")
    say(f"   It was sent from {source(answer)}, the very address that it is about. That is inside")
    say(f"   {GUEST_PREFIX}, so the hypervisor let it pass.\n")


def solicitations(capture: Program) -> list[str]:
    """Return the questions for the container that were captured."""
    return capture.lines(f"neighbor solicitation, who has {CONTAINER},")


def advertisements(capture: Program) -> list[str]:
    """Return the answers for the container that were captured."""
    return capture.lines(f"neighbor advertisement, tgt is {CONTAINER},")


def source(line: str) -> IPv6Address:
    """Return the IPv6 source of a frame in tcpdump's wording: "IP6 SOURCE > DESTINATION: ..."."""
    return IPv6Address(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
