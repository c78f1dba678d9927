"""With what a solicitation is answered, where the RFCs leave the choice to the operator."""

from dataclasses import dataclass
from enum import Enum


class Override(Enum):
    """When the Override flag is set (RFC 4861 section 4.4): it displaces an entry that the asker already has."""

    AUTO = "auto"
    """Only for an address that is known to live here, and only when the asker solicits by multicast."""
    ALWAYS = "always"
    """In every answer but that to a duplicate address detection probe."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """With what to answer. `link_address` is the uplink's MAC, 6 octets, as it is now."""

    link_address: bytes
    router: bool = True
    override: Override = Override.AUTO
