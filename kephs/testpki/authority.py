"""The TEST PKI: a root, two issuing authorities, and everybody who holds a certificate of theirs.

::

    TEST kephs Kok CA (P-384)                     root of evidence and holders
      |- TEST kephs ESHS CA P384   "p384"         signs with ECDSA, SHA-384
      |    |- holders, transaction certificate of hs91, TSA, OCSP responder
      `- TEST kephs ESHS CA PSS    "pss"          RSA-4096, signs with RSA-PSS, SHA-256 (Teblig: PSS only)
           |- holders, transaction certificate of hs92, OCSP responder
    TEST kephs TLS Kok CA                         for TLS only, never a root of evidence

Every certificate carries the marker of `kephs.testpki.marker`; a production instance refuses it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

from cryptography import x509

from directory.identity import is_identity_number
from kephs.testpki import profiles
from kephs.testpki.answers import Answers
from kephs.testpki.hierarchy import (
    AUTHORITIES,
    ISSUERS,
    RESPONDERS,
    Authority,
    AuthorityName,
    IssuerName,
    make_authorities,
    self_signed,
    subordinate,
    with_broken_signature,
)
from kephs.testpki.index import Index
from kephs.testpki.issued import Issued, write_p12
from kephs.testpki.keys import KeyKind, PrivateKey, make_key
from kephs.testpki.profiles import Extension, Profile, Urls, whole_second, years
from kephs.testpki.status import CRL_LIFETIME, OCSP_LIFETIME

DEFAULT_PROVIDERS: Final[Sequence[tuple[str, str, IssuerName]]] = (
    ("hs91.kep.tr", "TEST Birinci KEP Hizmet Sağlayıcısı A.Ş.", "p384"),
    ("hs92.kep.tr", "TEST İkinci KEP Hizmet Sağlayıcısı A.Ş.", "pss"),
)


class TestPki:
    """Issues TEST certificates and answers for them. Not thread-safe; processes may share the folder."""

    __test__: ClassVar[bool] = False  # not a class of tests, whatever pytest thinks of the name
    tsa: Issued

    def __init__(
        self,
        *,
        directory: Path | None,
        base_url: str,
        created: datetime,
        authorities: Mapping[str, Authority],
        index: Index,
    ) -> None:
        self.directory = directory
        self.base_url = base_url
        self.created = created
        self.authorities = dict(authorities)
        self.transactions: dict[str, Issued] = {}
        self.responders: dict[str, Issued] = {}
        self.index = index
        self._impostors: dict[str, Authority] = {}
        self._answers: Answers | None = None

    # ----------------------------------------------------------------- making and keeping

    @classmethod
    def create(
        cls,
        directory: Path | None,
        *,
        base_url: str,
        now: datetime,
        providers: Sequence[tuple[str, str, IssuerName]] = DEFAULT_PROVIDERS,
        keys: Mapping[str, PrivateKey] | None = None,
    ) -> "TestPki":
        """Make a TEST PKI with transaction certificates for the providers.

        Args:
            directory: where certificates and keys (0600) are kept; None keeps them in memory only.
            base_url: where the server answers, without a final slash; it goes into the certificates.
            now: the time of creation; authorities are valid from three years earlier on.
            providers: domain, legal name and issuer of each.
            keys: ready keys of authorities by name ("pss" takes seconds to make).
        """
        created = whole_second(now)
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        index = Index(directory / "index.jsonl" if directory else None)
        authorities = make_authorities(base_url.rstrip("/"), created, index, keys or {})
        pki = cls(
            directory=directory,
            base_url=base_url.rstrip("/"),
            created=created,
            authorities=authorities,
            index=index,
        )
        for name in RESPONDERS:
            pki.responders[name] = pki.issue_responder(name)
        pki.tsa = pki.issue_tsa()
        for domain, legal_name, issuer in providers:
            pki.transactions[domain] = pki.issue_transaction(domain, legal_name, issuer)
        if directory is not None:
            pki._save(directory)
        return pki

    @classmethod
    def load(cls, directory: Path) -> "TestPki":
        """Read a TEST PKI that `create` left in a folder."""
        facts = json.loads((directory / "pki.json").read_text("utf-8"))
        authorities: dict[str, Authority] = {}
        for name in AUTHORITIES:
            issued = Issued.read(directory, f"authority-{name}")
            authorities[name] = Authority(name, issued, (issued.certificate,) if name in ISSUERS else ())
        pki = cls(
            directory=directory,
            base_url=facts["base_url"],
            created=datetime.fromisoformat(facts["created"]),
            authorities=authorities,
            index=Index(directory / "index.jsonl"),
        )
        pki.index.refresh()
        for name in RESPONDERS:
            pki.responders[name] = Issued.read(directory, f"ocsp-{name}")
        pki.tsa = Issued.read(directory, "tsa")
        for domain in facts["transactions"]:
            pki.transactions[domain] = Issued.read(directory, f"transaction-{domain}")
        return pki

    def _save(self, directory: Path) -> None:
        for name, authority in self.authorities.items():
            Issued(authority.certificate, authority.issued.key, authority.issued.chain).write(
                directory, f"authority-{name}"
            )
        for name, responder in self.responders.items():
            responder.write(directory, f"ocsp-{name}")
        self.tsa.write(directory, "tsa")
        self._save_facts(directory)

    def _save_facts(self, directory: Path) -> None:
        for domain, issued in self.transactions.items():
            issued.write(directory, f"transaction-{domain}")
        facts = {
            "base_url": self.base_url,
            "created": self.created.isoformat(),
            "transactions": list(self.transactions),
        }
        partial = directory / "pki.json.part"
        partial.write_text(json.dumps(facts, indent=1), "utf-8")
        partial.replace(directory / "pki.json")

    # ----------------------------------------------------------------- roots

    @property
    def root(self) -> bytes:
        """Return the root of holders, providers, TSA: DER."""
        return self.authorities["root"].certificate

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """Return the certificates of the issuing authorities, DER."""
        return tuple(self.authorities[name].certificate for name in ISSUERS)

    @property
    def tls_root(self) -> bytes:
        """Return the root of TLS servers, DER; it is no root of evidence."""
        return self.authorities["tls"].certificate

    # ----------------------------------------------------------------- issuing

    def issue_user(
        self,
        name: str,
        tckn: str,
        *,
        issuer: IssuerName = "p384",
        key: KeyKind | PrivateKey = "p256",
        organization: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        impostor: bool = False,
        broken_signature: bool = False,
        qualified: bool = True,
        btk: bool = True,
        seal: bool = False,
        user_notice: bool = True,
        non_repudiation: bool = True,
        digital_signature: bool = True,
        mali_muhur: bool = False,
    ) -> Issued:
        """Issue a qualified certificate (NES); each keyword spoils exactly one thing.

        Args:
            name: common name; "TEST" is put before it where missing.
            tckn: the T.C. identity number, in the subject's serialNumber.
            issuer: which authority signs.
            key: kind of key to make, or a ready one; "rsa1024" is too short on purpose.
            organization: O of the subject, for a seal or a legal person.
            not_before: default one day before the PKI was made.
            not_after: default three years after it was made.
            impostor: let a self-made authority of the same name and key identifier sign.
            broken_signature: flip the last octet of the signature.
            qualified: write the ETSI statement.
            btk: write the Turkish statement.
            seal: make the Turkish statement that of a seal.
            user_notice: write the text into the policy.
            non_repudiation: set this keyUsage bit.
            digital_signature: set this keyUsage bit.
            mali_muhur: add the policy of the Mali Mühür, which is no NES.

        Raises:
            ValueError: the check digits of ``tckn`` are wrong.
        """
        if not is_identity_number(tckn):
            raise ValueError(f"{tckn}: not a T.C. identity number")
        profile = Profile(
            qualified=qualified,
            btk=btk,
            seal=seal,
            user_notice=user_notice,
            non_repudiation=non_repudiation,
            digital_signature=digital_signature,
            mali_muhur=mali_muhur,
        )
        authority = self.impostor_of(issuer) if impostor else self.authorities[issuer]
        subject = profiles.name(common_name=name, organization=organization, tckn=tckn)
        issued = self.issue(
            subject,
            profiles.holder_extensions(profile),
            authority=authority,
            key=key,
            not_before=not_before,
            not_after=not_after,
        )
        if broken_signature:
            return Issued(with_broken_signature(issued.certificate), issued.key, issued.chain)
        return issued

    def issue_transaction(
        self,
        domain: str,
        legal_name: str,
        issuer: IssuerName = "p384",
        *,
        service_address: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """Issue a provider's transaction certificate (işlem sertifikası), P-256.

        It names the provider in the SAN: its domain, and its service address
        (default ``kep-hizmet@`` domain).
        """
        subject = profiles.name(common_name=f"TEST {domain} Islem Sertifikasi", organization=legal_name)
        extensions = profiles.transaction_extensions(domain, service_address or f"kep-hizmet@{domain}")
        return self.issue(
            subject,
            extensions,
            authority=self.authorities[issuer],
            not_before=not_before,
            not_after=not_after,
        )

    def add_provider(self, domain: str, legal_name: str, issuer: IssuerName = "p384") -> Issued:
        """Issue a transaction certificate and keep it with the PKI under its domain."""
        issued = self.issue_transaction(domain, legal_name, issuer)
        self.transactions[domain] = issued
        if self.directory is not None:
            self._save_facts(self.directory)
        return issued

    def issue_tsa(
        self,
        *,
        eku: bool = True,
        critical: bool = True,
        key: KeyKind | PrivateKey = "p256",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """Issue a time-stamping certificate; ``eku`` and ``critical`` spoil its extended key usage."""
        return self.issue(
            profiles.name(common_name="TEST kephs Zaman Damgasi"),
            profiles.timestamp_extensions(eku=eku, critical=critical),
            authority=self.authorities["p384"],
            key=key,
            not_before=not_before or self.created - years(2),
            not_after=not_after or self.created + years(10),
        )

    def issue_responder(self, authority: AuthorityName, *, eku: bool = True, nocheck: bool = True) -> Issued:
        """Issue a delegated OCSP responder of one authority (P-256)."""
        return self.issue(
            profiles.name(common_name=f"TEST kephs OCSP {authority}"),
            profiles.responder_extensions(eku=eku, nocheck=nocheck),
            authority=self.authorities[authority],
            not_before=self.created - years(2),
            not_after=self.created + years(10),
        )

    def issue_tls(self, domain: str, *more: str, not_after: datetime | None = None) -> Issued:
        """Issue a TLS server certificate for its domains, localhost, 127.0.0.1 and ::1."""
        return self.issue(
            profiles.name(common_name=f"TEST {domain}"),
            profiles.tls_extensions((domain, *more)),
            authority=self.authorities["tls"],
            not_after=not_after or self.created + timedelta(days=397),
        )

    def issue(
        self,
        subject: x509.Name,
        extensions: Sequence[Extension],
        *,
        authority: Authority,
        key: KeyKind | PrivateKey = "p256",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Issued:
        """Issue any certificate under an authority and note its serial number."""
        private = make_key(key) if isinstance(key, str) else key
        urls = Urls.of(self.base_url, authority.name)
        located = [] if authority.name == "tls" else profiles.locations(urls)
        builder = profiles.certificate_builder(
            subject=subject,
            public_key=private.public_key(),
            issuer=authority.issued.x509,
            not_before=not_before or self.created - timedelta(days=1),
            not_after=not_after or self.created + years(3),
            extensions=[*extensions, *located],
        )
        issued = Issued(authority.sign(builder), private, authority.chain)
        if authority is self.authorities.get(authority.name):
            self.index.issued(authority.name, issued.serial)
        return issued

    def impostor_of(self, issuer: IssuerName) -> Authority:
        """Return a self-made authority with a real one's name and key identifier, but other keys and root."""
        if issuer not in self._impostors:
            real = self.authorities[issuer]
            root = self_signed(
                "root", make_key("p384"), self.created, like=self.authorities["root"].issued.x509
            )
            made = subordinate(
                issuer, make_key("p384"), root, self.base_url, self.created, like=real.issued.x509
            )
            self._impostors[issuer] = made
        return self._impostors[issuer]

    def write_p12(self, issued: Issued, path: Path, password: str) -> None:
        """Write a PKCS#12 file with key, certificate and chain; see `kephs.testpki.issued.write_p12`."""
        write_p12(issued, path, password)

    # ----------------------------------------------------------------- answering

    def revoke(
        self, serial: int, at: datetime, reason: x509.ReasonFlags = x509.ReasonFlags.key_compromise
    ) -> None:
        """Revoke a certificate by its serial number, authorities' included; other processes see it at once.

        Raises:
            UnknownSerialError: no authority of this PKI issued it.
        """
        self.index.revoke(serial, whole_second(at), reason)

    def ocsp_response(
        self, request_der: bytes, now: datetime, *, ca: str, lifetime: timedelta = OCSP_LIFETIME
    ) -> bytes:
        """Return the OCSP response, DER, of one authority ("root", "p384", "pss") to a request."""
        return self._answering().ocsp(request_der, now, ca=ca, lifetime=lifetime)

    def crl(self, ca: str, now: datetime, *, lifetime: timedelta = CRL_LIFETIME) -> bytes:
        """Return the CRL, DER, of one authority."""
        return self._answering().crl(ca, now, lifetime=lifetime)

    def timestamp_reply(self, request_der: bytes, now: datetime) -> bytes:
        """Return the TimeStampResp, DER, of the TEST TSA to a TimeStampReq."""
        return self._answering().timestamp(request_der, now)

    def _answering(self) -> Answers:
        if self._answers is None:  # the responders are issued after the authorities stand
            self._answers = Answers(
                authorities=self.authorities, responders=self.responders, tsa=self.tsa, index=self.index
            )
        return self._answers
