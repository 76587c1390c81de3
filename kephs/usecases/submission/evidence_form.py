"""In which form evidence is sealed, by who is going to read it.

Our own senders and recipients get it as this provider makes it. What leaves to a peer has its time stamp
inside unless the peer agreed to evidence records (rules in detail, "Batch time stamps travel with the
evidence"); a ``rem-baseline`` peer always gets it inside (D16).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from directory.providers import Peer, ProviderRegister, Stamps
from directory.providers import Profile as PeerProfile
from evidence.model.records import Profile
from evidence.ports import Stamping


@dataclass(frozen=True, slots=True)
class EvidenceForm:
    """Serialisation and stamping; ``stamping`` None: as the provider does it."""

    profile: Profile = Profile.KEP
    stamping: Stamping | None = None


OURS = EvidenceForm()


def form_of_acceptance(register: ProviderRegister, domains: Iterable[str]) -> EvidenceForm:
    """Return the form of evidence 10, which every peer that serves a recipient gets with the message."""
    elsewhere = {domain for domain in domains if domain != register.own}
    if all(_takes_records(register.peers.get(domain)) for domain in elsewhere):
        return OURS
    return EvidenceForm(stamping=Stamping.OWN)


def form_for_origin(register: ProviderRegister, origin: str | None) -> EvidenceForm:
    """Return the form of evidence about a message, which goes to the provider it came from, if any."""
    if origin is None:
        return OURS
    peer = register.peers.get(origin)
    profile = Profile.KEP if peer is None else Profile(peer.profile.value)
    return EvidenceForm(profile, None if _takes_records(peer) else Stamping.OWN)


def _takes_records(peer: Peer | None) -> bool:
    return peer is not None and peer.stamps is Stamps.BATCH and peer.profile is PeerProfile.KEP_TS102640
