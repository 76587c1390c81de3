"""The simulated PKI: generations of roots and issuers, time-stamping authorities that live five years.

Every certificate is a TEST one (`kephs.testpki`). Nothing asks a network; the clock is the simulation's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from evidence.adapters.soft_signer import SoftSigner
from evidence.ports import TimestampUnavailableError
from evidence.stamps.messages import TokenIssuer
from evidence.x509.algorithms import AlgorithmPolicy, HashRule, KeyRule
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationAnswer, RevocationError, check_ocsp, ocsp_request
from kephs.simulation.tokens import request_of, sign_sha512
from kephs.testpki import profiles
from kephs.testpki.authority import TestPki
from kephs.testpki.hierarchy import RESPONDERS
from kephs.testpki.issued import Issued
from kephs.testpki.keys import PrivateKey, make_key, sign_digest
from kephs.testpki.oids import TEST_TSA_POLICY

DOMAIN: Final = "hs91.kep.tr"
LEGAL_NAME: Final = "TEST Birinci KEP Hizmet Sağlayıcısı A.Ş."
YEAR: Final = timedelta(days=365, hours=6)
_NOWHERE: Final = "http://127.0.0.1:9"


@dataclass(slots=True)
class MovingClock:
    """A clock that moves when it is told to; a `kephs.ports.Clock`."""

    at: datetime

    def now(self) -> datetime:
        """Return the time."""
        return self.at

    def move(self, to: datetime) -> None:
        """Go on to a time; never back."""
        self.at = max(self.at, to)


@dataclass(frozen=True, slots=True)
class Stamping:
    """A time-stamping authority: its certificate, its generation, and the hash it signs with."""

    issued: Issued
    generation: int
    sha512: bool


class Authorities:
    """All authorities of the twenty years; answers on revocation at any time they could.

    Args:
        clock: the simulation's.
        start: the beginning of year 1.
    """

    def __init__(self, clock: MovingClock, start: datetime) -> None:
        self._clock, self._start = clock, start
        self._spare: PrivateKey = make_key("rsa2048")  # of the RSA issuer, which plays no part here
        self.generations: list[TestPki] = []
        self.stamping: Stamping | None = None
        self.tokens = 0
        self.trust = TrustStore(())
        self._serial = 0
        self._retired: datetime | None = None

    def year(self, count: float) -> datetime:
        """Return the moment so many years after the start, in whole seconds."""
        return (self._start + count * YEAR).replace(microsecond=0)

    def new_generation(self) -> int:
        """Make a new root with issuers, as from now; return how many there are."""
        pki = TestPki.create(
            None, base_url=_NOWHERE, now=self._clock.now(), providers=(), keys={"pss": self._spare}
        )
        for name in RESPONDERS:  # P-384 signs with SHA-384, which outlives SHA-256
            pki.responders[name] = pki.issue(
                profiles.name(common_name=f"TEST kephs OCSP {name}"),
                profiles.responder_extensions(),
                authority=pki.authorities[name],
                key="p384",
                not_before=pki.created - timedelta(days=1),
                not_after=pki.created + 10 * YEAR,
            )
        self.generations.append(pki)
        self._renew_trust()
        return len(self.generations)

    @property
    def newest(self) -> TestPki:
        """Return the newest generation."""
        return self.generations[-1]

    def new_stamping(self, *, sha512: bool = False) -> Stamping:
        """Put a new time-stamping certificate into use, for five years from now."""
        now = self._clock.now()
        issued = self.newest.issue_tsa(not_before=now - timedelta(days=1), not_after=now + 5 * YEAR)
        self.stamping = Stamping(issued, len(self.generations) - 1, sha512)
        return self.stamping

    def new_transaction(self) -> Issued:
        """Issue a transaction certificate of three years from now."""
        now = self._clock.now()
        return self.newest.issue_transaction(
            DOMAIN, LEGAL_NAME, not_before=now - timedelta(days=1), not_after=now + 3 * YEAR
        )

    def signer(self, issued: Issued) -> SoftSigner:
        """Return the signer of a certificate."""
        return SoftSigner(issued.key, issued.certificate, issued.chain)

    def revoke(self, issued: Issued, at: datetime) -> None:
        """Revoke a certificate as from a time."""
        self._generation_of(issued).revoke(issued.serial, at)

    def retire_sha256(self, at: datetime) -> None:
        """Let the table say that SHA-256 ends at a time."""
        self._retired = at
        self._renew_trust()

    def algorithms(self) -> AlgorithmPolicy:
        """Return the table of algorithms as it is known today; ends are enforced."""
        default = AlgorithmPolicy()
        hashes = tuple(
            HashRule(row.name, self._retired if row.name == "sha256" else None) for row in default.hashes
        )
        keys = tuple(KeyRule(row.role, row.family, row.min_bits, None) for row in default.keys)
        return AlgorithmPolicy(keys=keys, hashes=hashes, enforce_end=True)

    def _renew_trust(self) -> None:
        """Trust the roots of today and before, under today's table."""
        self.trust.algorithms = self.algorithms()
        self.trust.renew([pki.root for pki in self.generations])

    # ----------------------------------------------------------------- what authorities do

    def token(self, by: Stamping, digest: bytes, hash_name: str, at: datetime) -> bytes:
        """Return a token, whatever time it says."""
        self._serial += 1
        issuer = TokenIssuer(by.issued.certificate, by.issued.chain, TEST_TSA_POLICY)
        number = 2**64 + self._serial
        draft = issuer.to_be_signed(request_of(digest, hash_name, number), at, number)
        if by.sha512:
            return sign_sha512(by.issued, draft)
        return issuer.assemble(draft, sign_digest(by.issued.key, draft.digest))

    async def stamp(self, digest: bytes, hash_name: str = "sha256") -> bytes:
        """Return a token of the authority in use; a `Timestamper` and a `RenewalStamper`.

        Raises:
            TimestampUnavailableError: none is in use.
        """
        if self.stamping is None:
            raise TimestampUnavailableError("no authority is in use")
        self.tokens += 1
        return self.token(self.stamping, digest, hash_name, self._clock.now())

    async def status(
        self, certificate: CertificateFacts, issuer: CertificateFacts, at: datetime
    ) -> RevocationAnswer | None:
        """Return what the issuer says today; None where its generation answers no more."""
        for pki in self.generations:
            if at > pki.created + 10 * YEAR:
                continue
            for name in ("root", "p384"):
                if pki.authorities[name].certificate == issuer.der:
                    answer = pki.ocsp_response(ocsp_request(certificate, issuer), at, ca=name)
                    try:
                        return check_ocsp(answer, certificate, issuer, at=at, trust=self.trust)
                    except RevocationError:
                        return None
        return None

    def _generation_of(self, issued: Issued) -> TestPki:
        found = [pki for pki in self.generations if pki.authorities["p384"].certificate in issued.chain]
        return found[0]
