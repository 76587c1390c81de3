"""What the TEST PKI answers over HTTP: OCSP responses, CRLs and time stamps, with their caches."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from evidence.stamps.messages import UNACCEPTED_POLICY, TimestampRequestError, rejection
from kephs.testpki.hierarchy import Authority
from kephs.testpki.index import Index
from kephs.testpki.issued import Issued
from kephs.testpki.oids import TEST_TSA_POLICY
from kephs.testpki.profiles import whole_second
from kephs.testpki.stamps import RequestReader, Stamper
from kephs.testpki.status import (
    CRL_LIFETIME,
    OCSP_LIFETIME,
    IssuerHashes,
    Responder,
    failure,
    nonce_of,
    revocation_list,
)

_CRL_CACHE: Final = timedelta(minutes=10)
_OCSP_CACHE: Final = timedelta(minutes=1)
_OCSP_CACHE_ENTRIES: Final = 10_000


class Answers:
    """Answers for all authorities. Caches live until the journal changes or they are too old."""

    def __init__(
        self,
        *,
        authorities: Mapping[str, Authority],
        responders: Mapping[str, Issued],
        tsa: Issued,
        index: Index,
    ) -> None:
        self._authorities = authorities
        self._responders = responders
        self._index = index
        self._requests = RequestReader()
        self._stamper = Stamper(tsa, TEST_TSA_POLICY)
        self._answering: dict[str, Responder] = {}
        self._hashes: dict[tuple[str, str], IssuerHashes] = {}
        self._crls: dict[tuple[str, timedelta], tuple[int, datetime, bytes]] = {}
        self._answers: dict[tuple[str, bytes, timedelta], tuple[int, datetime, bytes]] = {}

    def ocsp(
        self, request_der: bytes, now: datetime, *, ca: str, lifetime: timedelta = OCSP_LIFETIME
    ) -> bytes:
        """Return the OCSP response, DER, of one authority ("root", "p384", "pss") to a request.

        An answer without nonce may be a minute old. Requests on another issuer's certificates get
        ``unauthorized``, unreadable ones ``malformedRequest``.
        """
        now = whole_second(now)
        self._index.refresh()
        cached = self._answers.get((ca, request_der, lifetime))
        if (
            cached is not None
            and cached[0] == self._index.version
            and cached[1] <= now < cached[1] + _OCSP_CACHE
        ):
            return cached[2]
        try:
            request = ocsp.load_der_ocsp_request(request_der)
            nonce = nonce_of(request)
            ours = self._issuer_hashes(ca, request.hash_algorithm)
        except (ValueError, NotImplementedError):  # several certificates, unknown hash, no DER
            return failure(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        if (request.issuer_name_hash, request.issuer_key_hash) != (ours.name, ours.key):
            return failure(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        revocation = self._index.revocation(request.serial_number)
        response = self._responder(ca).answer(
            request,
            known=self._index.is_issued(ca, request.serial_number),
            revocation=revocation if revocation is not None and revocation.at <= now else None,
            produced_at=now,
            this_update=now,
            next_update=now + lifetime,
            nonce=nonce,
        )
        if nonce is None:
            if len(self._answers) >= _OCSP_CACHE_ENTRIES:
                self._answers.clear()
            self._answers[ca, request_der, lifetime] = (self._index.version, now, response)
        return response

    def crl(self, ca: str, now: datetime, *, lifetime: timedelta = CRL_LIFETIME) -> bytes:
        """Return the CRL, DER, of one authority; at most ten minutes old, new at every revocation."""
        now = whole_second(now)
        self._index.refresh()
        revoked = [(serial, entry) for serial, entry in self._index.revoked_by(ca) if entry.at <= now]
        cached = self._crls.get((ca, lifetime))
        if cached is not None and cached[0] == len(revoked) and cached[1] <= now < cached[1] + _CRL_CACHE:
            return cached[2]
        authority = self._authorities[ca]
        der = revocation_list(
            issuer=authority.issued.x509,
            key=authority.issued.key,
            revoked=revoked,
            this_update=now,
            next_update=now + lifetime,
            # Grows with time and with every entry, also across restarts; 20 octets at most.
            number=int(now.timestamp()) * 1_000_000 + self._index.version,
        )
        self._crls[ca, lifetime] = (len(revoked), now, der)
        return der

    def _responder(self, ca: str) -> Responder:
        if ca not in self._answering:
            self._answering[ca] = Responder(self._responders[ca])
        return self._answering[ca]

    def _issuer_hashes(self, ca: str, algorithm: hashes.HashAlgorithm) -> IssuerHashes:
        key = (ca, algorithm.name)
        if key not in self._hashes:
            self._hashes[key] = IssuerHashes.of(self._authorities[ca].issued.x509, algorithm)
        return self._hashes[key]

    def timestamp(self, request_der: bytes, now: datetime) -> bytes:
        """Return the TimeStampResp, DER, to a TimeStampReq: a token, or a refusal with its reason."""
        try:
            request = self._requests.read(request_der)
        except TimestampRequestError as error:
            return rejection(error.failure, str(error))
        if request.policy not in {None, TEST_TSA_POLICY}:
            return rejection(UNACCEPTED_POLICY, "unknown policy")
        # 64 random bits: unique in practice, across restarts and processes too
        return self._stamper.stamp(request, whole_second(now), secrets.randbits(64))
