"""What a signature brings beyond the basic form: policy, stamps, references and values (steps 12 to 16)."""

from collections.abc import Callable
from datetime import datetime

from evidence.asn1.der import DerError
from evidence.cms.signed_data import SIGNATURE_POLICY, SignedData, SignerCheck, SignerInfo
from evidence.nes.embedded import joined
from evidence.nes.findings import failing
from evidence.nes.long_term import ATTRIBUTES, LongTerm, long_term_steps
from evidence.nes.model import Embedded
from evidence.nes.profiles import Profile, ProfileClaim, read_claim
from evidence.nes.signature_stamps import Stamp, StampSetting, archive_stamps, order_step, signature_stamps
from evidence.report import Step, SubIndication, Verdict, held
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import Chain


class Extended:
    """One signer's policy, stamps and long-term attributes. `look` first, then `steps`.

    ``others``: certificates of counter-signers, which references and values may be about too.
    ``best_time``: the earliest proven time of the signature.
    """

    def __init__(
        self,
        signed: SignedData,
        signer: SignerInfo,
        check: SignerCheck,
        setting: StampSetting,
        embedded: Embedded,
    ) -> None:
        self._signed, self._signer, self._check = signed, signer, check
        self.setting = setting
        self._embedded = embedded
        self._claim = self._read_claim()
        self._stamp_steps: list[Step] = []
        self._archive_steps: list[Step] = []
        self.stamps: list[Stamp] = []
        self.archived: list[Stamp] = []
        self.others: list[CertificateFacts] = []
        self.best_time: datetime | None = None

    def _read_claim(self) -> ProfileClaim | None:
        for attribute in self._signer.attributes:
            if attribute.oid == SIGNATURE_POLICY:
                if len(attribute.values) != 1:
                    constraint = SubIndication.SIG_CONSTRAINTS_FAILURE
                    return ProfileClaim(None, "policy-malformed", "not exactly one value", constraint)
                try:
                    return read_claim(attribute.values[0], self.setting.policy.profiles)
                except DerError as error:
                    constraint = SubIndication.SIG_CONSTRAINTS_FAILURE
                    return ProfileClaim(None, "policy-malformed", str(error), constraint)
        return None

    @property
    def profile(self) -> Profile | None:
        """Return what the signature claims to be; None where it claims something unknown."""
        if self._claim is None:
            return Profile.P1
        return self._claim.row.profile if self._claim.row is not None else None

    def look(
        self,
        content_digest: Callable[[str], bytes | None],
        at: datetime,
        proven: datetime | None,
        number: str,
    ) -> None:
        """Verify all time stamps and find the earliest proven time.

        Args:
            content_digest: see `archive_stamps`.
            at: when a stamp must hold that no younger one covers.
            proven: a time the caller can prove for the whole signature.
            number: of the signer's steps.
        """
        signed, signer, setting = self._signed, self._signer, self.setting
        if signer.unsigned:
            self._archive_steps, self.archived = archive_stamps(
                signed, signer, content_digest, setting, at, f"{number}.16"
            )
            self._stamp_steps, self.stamps = signature_stamps(
                signer, setting, self.archived, at, f"{number}.13"
            )
        times = [stamp.gen_time for stamp in (*self.stamps, *self.archived)]
        self.best_time = min(times if proven is None else (*times, proven), default=None)

    def all_embedded(self) -> Embedded:
        """Return everything that this signature and its time stamps bring."""
        return joined((self._embedded, *(stamp.embedded for stamp in (*self.stamps, *self.archived))))

    def steps(self, chain: Chain | None, at: datetime, number: str) -> list[Step]:
        """Return steps 12 to 16, those that apply.

        Args:
            chain: the signer's path; None where there is none, then references cannot be compared.
            at: the time of the check.
            number: of the signer's steps.
        """
        profile, claimed = self.profile, self._check.signing_time
        stamped = profile in {Profile.P2, Profile.P3, Profile.P4}
        found: list[Step] = []
        if self._claim is not None:
            found.append(self._claim_step(self._claim, claimed, f"{number}.12"))
        found += self._stamp_steps
        if stamped and not self._stamp_steps:
            detail = f"{profile} wants a signature time stamp"
            constraint = SubIndication.SIG_CONSTRAINTS_FAILURE
            found.append(failing(f"{number}.13", "signature time stamp", "stamp-missing", detail, constraint))
        if self.stamps:
            policy = self.setting.policy
            found.append(order_step(self.stamps, claimed, policy, at, f"{number}.14", in_window=stamped))
        if chain is not None and (self._long_term or (profile is not None and profile.long_term)):
            found += long_term_steps(self._facts(chain, at), f"{number}.15")
        return [*found, *self._archive_steps]

    @property
    def _long_term(self) -> bool:
        return any(attribute.oid in ATTRIBUTES for attribute in self._signer.unsigned)

    def _claim_step(self, claim: ProfileClaim, claimed: datetime | None, number: str) -> Step:
        name = "signature policy"
        if claim.sub_indication is not None:
            return failing(
                number, name, claim.code, claim.detail, claim.sub_indication, Verdict.INDETERMINATE
            )
        if claimed is None:
            detail = f"{self.profile} wants a signing time"
            return failing(
                number, name, "signing-time-missing", detail, SubIndication.SIG_CONSTRAINTS_FAILURE
            )
        return held(number, name, str(self.profile))

    def _facts(self, chain: Chain, at: datetime) -> LongTerm:
        first = min((stamp.gen_time for stamp in self.stamps), default=None)
        paths = [facts for stamp in (*self.stamps, *self.archived) for facts in stamp.chain.certificates]
        return LongTerm(
            self._signer,
            self.profile or Profile.P1,
            chain,
            (*paths, *self.others),
            tuple((stamp.chain, stamp.embedded) for stamp in self.stamps),
            first or self._check.signing_time or at,
            self._check.signing_time,
            self.setting.policy,
            self.setting.trust,
        )
