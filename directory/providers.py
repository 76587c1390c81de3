"""Which provider serves an address: ours, a registered peer, or nobody we know."""

from dataclasses import dataclass, field
from enum import StrEnum

from directory.addresses import DEFAULT_SUFFIX, KepAddress


class Served(StrEnum):
    """Where an address is served."""

    HERE = "here"
    PEER = "peer"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class ProviderRegister:
    """Our own domain, the suffix all KEP domains share, and the peers known by contract."""

    own: str
    suffix: str = DEFAULT_SUFFIX
    peers: frozenset[str] = field(default_factory=frozenset)

    def parse(self, text: str) -> KepAddress:
        """Parse an address under this register's suffix.

        Raises:
            AddressError: the text is no KEP address.
        """
        return KepAddress.parse(text, suffix=self.suffix)

    def served(self, address: KepAddress) -> Served:
        """Say who serves an address."""
        if address.provider == self.own:
            return Served.HERE
        return Served.PEER if address.provider in self.peers else Served.NOWHERE
