"""What hypothesis makes up: prefixes that meet and nest often, sets, frames that are nearly right."""

from ipaddress import IPv6Address, IPv6Network

from hypothesis import strategies as st
from vectors import ROWS

from ndpresponder.addresses import Refusal, Rule
from ndpresponder.verdict import Verdict

_BASE = int(IPv6Address("2001:db8::"))
# Few different values in each part, so that prefixes nest, touch and coincide.
_octets = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF])
addresses = st.builds(
    lambda parts: _BASE + sum(part << shift for part, shift in zip(parts, (0, 8, 31, 32, 63, 64), strict=True)),
    st.tuples(*[_octets] * 6),
)
any_address = st.integers(0, 2**128 - 1)
lengths = st.sampled_from([32, 33, 48, 56, 63, 64, 65, 95, 96, 97, 112, 120, 127, 128]) | st.integers(32, 128)
prefixes = st.builds(lambda address, length: IPv6Network((address, length), strict=False), addresses, lengths)
rules = st.builds(Rule, prefixes, st.sampled_from(["static", "docker"]), st.booleans())
singles = st.builds(lambda address: IPv6Network((address, 128)), addresses)
refusals = st.builds(Refusal, prefixes, st.just(Verdict.EXCLUDED)) | st.builds(
    Refusal, singles, st.sampled_from([Verdict.OWN_ADDRESS, Verdict.GATEWAY, Verdict.ANYCAST])
)
entries = st.lists(rules | refusals, max_size=16)


@st.composite
def nearly_right_frames(draw: st.DrawFn) -> bytes:
    """Draw a frame of the table with some octets changed, cut off or added."""
    frame = bytearray(draw(st.sampled_from(ROWS)).frame)
    for _ in range(draw(st.integers(0, 4))):
        if frame:
            frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    frame = frame[: draw(st.integers(0, len(frame)))] if draw(st.booleans()) else frame
    return bytes(frame) + draw(st.binary(max_size=16))


frames = st.binary(max_size=200) | nearly_right_frames()
