"""The zoo of sender signatures: any signed message, made from a plan, with at most one thing spoiled.

::

    good = make(Plan(signers=(SignerPlan(level="P4"),)))
    bad = make(replace(good.plan, spoil="policy-hash-other"))
    assert good.judge().verdict is Verdict.PASSED

Every intermediate value of the making passes a named stage (`Workshop.at`). A spoil is one stage and one
function (`tests.support.nes_zoo_spoils`), so a spoiled message differs from its twin in that value alone.

Names of stages: ``s1``, ``s2`` parallel signers; ``s1.c1`` counter-signature, ``s1.c1.c1`` one on it; ``s1.t1``
signature time stamp; ``s1.a1`` archive stamp; ``root``, ``ca``, ``tsa-root``, ``tsa-ca``, ``tsa`` authorities;
``ocsp-ca``, ``ocsp-root``, ``ocsp-tsa-ca``, ``ocsp-tsa-root`` their responders.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import new as new_hash
from hashlib import sha256
from typing import Any, TypeVar

from evidence.asn1.der import (
    GENERALIZED_TIME,
    generalized_time,
    implicit,
    integer,
    octets,
    oid,
    seq,
    tlv,
    utctime,
    utf8,
)
from evidence.mail.mime import scan
from evidence.nes.verifier import (
    Moment,
    NesPolicy,
    Prepared,
    SenderReport,
    conclude,
    prepare,
    prepare_signature,
)
from evidence.ports import BytesSource
from evidence.x509.chain import TrustStore
from evidence.x509.crl import check_crl
from evidence.x509.revocation import RevocationAnswer, RevocationError, check_ocsp
from kephs.testpki.oids import BTK_QUALIFIED_SEAL, BTK_TEXT
from tests.support import nes_zoo_ades as ades
from tests.support import nes_zoo_pki as pki
from tests.support.nes_zoo_pki import Answer, Entity, Profile, RevocationList
from tests.support.nes_zoo_plan import (
    AUTHORITIES,
    CLAIMED,
    DAY,
    FETCHED,
    HOUR,
    ID_DATA,
    MINUTE,
    STAMPED,
    TST_INFO,
    Plan,
    SignerPlan,
    Tst,
)
from tests.support.pki import AYSE_TCKN, MEHMET_TCKN, NOW
from tests.support.signers import ENTITY, detached_around, opaque_around

__all__ = [
    "CLAIMED",
    "DAY",
    "FETCHED",
    "HOUR",
    "ID_DATA",
    "MINUTE",
    "STAMPED",
    "Plan",
    "SignerPlan",
    "Specimen",
    "Spoil",
    "Workshop",
    "make",
]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spoil:
    """One stage and what is done to the value there; the function may look at the workshop."""

    stage: str
    change: Callable[[Any, "Workshop"], Any]


class Workshop:
    """Makes one message. Keys are the session's, everything else is new."""

    def __init__(self, plan: Plan, spoil: Spoil | None) -> None:
        self.plan, self._spoil, self.spoiled = plan, spoil, False
        self._lists: dict[tuple[str, datetime], RevocationList] = {}
        self.entities: dict[str, Entity] = {}
        self.stamped: dict[str, bytes] = {}
        self._authorities()
        self.certificates: list[bytes] = []
        self._digests: set[bytes] = set()
        entity = ENTITY
        infos = []
        for number, signer in enumerate(plan.signers, 1):
            infos.append(self._signer(f"s{number}", signer, entity))
            self._digests.add(pki.digest_id(signer.digest))
        self.cms = self._container(infos, entity)
        self.content = self.at("entity", entity)
        make = opaque_around if plan.form == "opaque" else lambda cms: detached_around(cms, self.content)
        self.message = self.at("message", make(self.cms))

    def at(self, stage: str, value: T) -> T:
        """Let the spoil touch the value, if this is its stage."""
        if self._spoil is None or self._spoil.stage != stage:
            return value
        self.spoiled = True
        changed: T = self._spoil.change(value, self)
        return changed

    # ----------------------------------------------------------------- certificates

    def _authorities(self) -> None:
        above, below = AUTHORITIES[self.plan.authority]
        self.entity("root", pki.authority("zoo root", above, role="root", path_length=None), None)
        if self.plan.odd_root:
            root = self.entities["root"]
            self.entities["root"] = replace(root, der=pki.with_curve_in_signature(root.der))
        self.entity("ca", pki.authority("zoo ca", below, role="ca", path_length=0), "root")
        self.entity("tsa-root", pki.authority("zoo tsa root", "p256", role="tsa-root", path_length=1), None)
        self.entity("tsa-ca", pki.authority("zoo tsa ca", "p256", role="tsa-ca", path_length=0), "tsa-root")
        self.entity("tsa", pki.stamper("zoo tsa"), "tsa-ca")
        for name in ("root", "ca", "tsa-root", "tsa-ca"):
            self.entity(f"ocsp-{name}", pki.responder(f"zoo ocsp {name}"), name)

    def entity(self, name: str, profile: Profile, issuer: str | None) -> Entity:
        """Issue one certificate; its profile and its issuer are stages."""
        above = self.at(f"{name}.issuer", self.entities[issuer]) if issuer else None
        self.entities[name] = pki.certify(self.at(f"{name}.profile", profile), above)
        return self.entities[name]

    def _holder(self, who: str, plan: SignerPlan) -> Entity:
        tckn = AYSE_TCKN if who == "s1" else MEHMET_TCKN
        profile = pki.holder(f"zoo {who}", plan.key, role=who, tckn=tckn)
        if plan.seal:
            first, _ = profile.statements
            profile = replace(
                profile, tckn=None,
                statements=(first, pki.statement(BTK_QUALIFIED_SEAL, utf8(BTK_TEXT))),
            )  # fmt: skip
        return self.entity(who, profile, "ca")

    # ----------------------------------------------------------------- signatures

    def _container(self, infos: Sequence[bytes], entity: bytes) -> bytes:
        fields = ades.signed_data(
            infos,
            self.at("certificates", self.certificates),
            content=entity if self.plan.form == "opaque" else None,
            digests=self._digests,
            keyed=any(signer.sid == "key" for signer in self.plan.signers),
        )
        return self.at("cms", self.at("container", ades.join)(self.at("data", fields)))

    def _signer(self, who: str, plan: SignerPlan, content: bytes) -> bytes:
        holder = self._holder(who, plan)
        self.certificates.append(holder.der)
        if self.plan.chain:
            self.certificates += holder.chain
        if who.count("c"):
            self._digests.add(pki.digest_id(plan.digest))
        return self.signer_info(who, holder, plan, content)

    def signer_info(
        self, who: str, holder: Entity, plan: SignerPlan, content: bytes, content_type: str = ID_DATA
    ) -> bytes:
        """Return a SignerInfo; attributes, value, unsigned attributes and fields are stages."""
        attributes = self.at(f"{who}.attributes", self._attributes(who, holder, plan, content, content_type))
        listed = list(attributes.values())
        inside = b"".join(sorted(listed) if plan.ordered else sorted(listed, reverse=True))
        data = tlv(0x31, inside) if listed else content
        key = self.at(f"{who}.key", holder.key)
        value = pki.sign(key, data, plan.digest, **self.at(f"{who}.scheme", {"pss": plan.pss}))
        value = self.at(f"{who}.value", value)
        fields = {
            "version": integer(3 if plan.sid == "key" else 1),
            "sid": self._sid(holder, plan),
            "digest": pki.digest_id(plan.digest),
            "attributes": tlv(0xA0, inside) if listed else b"",
            "algorithm": self._algorithm(holder, plan),
            "value": octets(value),
        }
        fields = self.at(f"{who}.fields", fields)
        unsigned = self._unsigned(who, holder, plan, value) if content_type == ID_DATA else {}
        if ".t" in who and self._stamped_by(who).tsa_material == "unsigned":
            unsigned[ades.REVOCATION_VALUES] = [ades.revocation_values(self.tsa_lists())]
        unsigned = self.at(f"{who}.unsigned", unsigned)
        if plan.archive:
            unsigned |= self._archive(who, plan, content, fields, unsigned)
        fields["unsigned"] = _unsigned_der(unsigned)
        return seq(*self.at(f"{who}.info", fields).values())

    def _attributes(
        self, who: str, holder: Entity, plan: SignerPlan, content: bytes, content_type: str
    ) -> dict[str, bytes]:
        digest = self.at(f"{who}.digest", new_hash(plan.digest, content).digest())
        certificate_id = self.at(f"{who}.ess", ades.ess(holder, plan.ess, issuer=plan.ess_issuer))
        found = {
            "type": ades.attribute(ades.CONTENT_TYPE, oid(content_type)),
            "digest": ades.attribute(ades.MESSAGE_DIGEST, octets(digest)),
            "ess": ades.attribute(ades.ESS_V2, seq(seq(certificate_id))),
        }
        if ".c" in who:
            del found["type"]
        if plan.time != "none":
            claimed = self.at(f"{who}.claimed", NOW + plan.claimed)
            found["time"] = ades.attribute(ades.SIGNING_TIME, _time(claimed, plan.time))
        if plan.level != "P1":
            named = self.at(f"{who}.policy", ades.policy_id(plan.level))
            found["policy"] = ades.attribute(ades.POLICY_ID, named.der())
        return found

    @staticmethod
    def _sid(holder: Entity, plan: SignerPlan) -> bytes:
        if plan.sid == "key":
            return implicit(0, holder.key_id)
        above = holder.issuer or holder
        return seq(above.profile.subject, integer(holder.profile.serial))

    @staticmethod
    def _algorithm(holder: Entity, plan: SignerPlan) -> bytes:
        if plan.naming == "plain":
            curve = plan.key.startswith("p")
            return seq(oid("1.2.840.10045.2.1" if curve else "1.2.840.113549.1.1.1"))
        if plan.naming == "rsa-on-ec":
            return seq(oid(pki.RSA_OIDS[plan.digest]), b"\x05\x00")
        return pki.algorithm_id(holder.key, plan.digest, pss=plan.pss)

    # ----------------------------------------------------------------- unsigned attributes

    def _unsigned(self, who: str, holder: Entity, plan: SignerPlan, value: bytes) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        if plan.stamp_times:
            found[ades.STAMP] = [
                self.token(f"{who}.t{number}", value, NOW + at)
                for number, at in enumerate(plan.stamp_times, 1)
            ]
        if plan.long:
            found |= self._long(who, holder, plan)
        if plan.counters:
            found[ades.COUNTER_SIGNATURE] = [
                self._signer(f"{who}.c{number}", counter, value)
                for number, counter in enumerate(plan.counters, 1)
            ]
        return found

    def _long(self, who: str, holder: Entity, plan: SignerPlan) -> dict[str, list[bytes]]:
        """Return references and values of the path, complete (spec: RFC5126#6.2, RFC5126#6.3)."""
        path = list(holder.path)
        by_ocsp = plan.level == "P4" if plan.ocsp_for_holder is None else plan.ocsp_for_holder
        names = {one.der: name for name, one in self.entities.items()}
        own: Answer | RevocationList = (
            self.answer(who, NOW + self.plan.fetched, embedded=True) if by_ocsp
            else self.revocations(names[path[0].der], NOW + self.plan.fetched, embedded=True)
        )  # fmt: skip
        upper = [self.revocations(names[one.der], NOW + self.plan.fetched, embedded=True) for one in path[1:]]
        referred: list[Answer | RevocationList | None] = [own, *upper, None]
        values: list[Answer | RevocationList] = [own, *upper]
        certificates = [one.der for one in path]
        if plan.tsa_material == "values":
            referred += self.tsa_lists()
            values += self.tsa_lists()
        values = self.at(f"{who}.revocation-values", values)
        cert_refs = self.at(f"{who}.cert-refs", [ades.cert_ref(one) for one in path])
        refs = self.at(f"{who}.revocation-refs", [ades.revocation_ref(one) for one in referred])
        return {
            ades.CERT_REFS: [seq(*cert_refs)],
            ades.REVOCATION_REFS: [seq(*refs)],
            ades.CERT_VALUES: [seq(*self.at(f"{who}.cert-values", certificates))],
            ades.REVOCATION_VALUES: [ades.revocation_values(values)],
        }

    def _stamped_by(self, who: str) -> SignerPlan:
        """Return the plan of the signer whose stamp ("s2.t1") this is."""
        return self.plan.signers[int(who[1]) - 1]

    def tsa_lists(self) -> list[RevocationList]:
        """Return the CRLs that speak of the TSA and of its authority."""
        return [
            self.revocations(name, NOW + self.plan.fetched, embedded=True) for name in ("tsa-ca", "tsa-root")
        ]

    def token(
        self, who: str, data: bytes, at: datetime, *, unsigned: Mapping[str, list[bytes]] | None = None
    ) -> bytes:
        """Return a time-stamp token over some octets, DER."""
        self.stamped[who] = data
        serial = 2 ** (
            60 * int(who[-1])
        )  # longer for each further one: values of a SET OF stand in that order
        info = self.at(f"{who}.tst", Tst(sha256(data).digest(), at, serial=serial)).der()
        tsa = self.entities["tsa"]
        fields_of = SignerPlan(time="none")
        signer = self.signer_info(who, tsa, fields_of, info, TST_INFO)
        if unsigned:
            signer = _with_unsigned(signer, unsigned)
        certificates = self.at(f"{who}.certificates", [tsa.der, *(one.der for one in tsa.path)])
        plan = self._stamped_by(who)
        lists = [one.der() for one in self.tsa_lists()] if plan.tsa_material == "token" and plan.long else []
        fields = ades.signed_data(
            [signer], certificates, content=info, digests=[pki.digest_id("sha256")],
            content_type=TST_INFO, crls=self.at(f"{who}.crls", lists),
        )  # fmt: skip
        return self.at(who, ades.join(fields))

    def _archive(
        self, who: str, plan: SignerPlan, content: bytes, fields: Mapping[str, bytes],
        unsigned: Mapping[str, list[bytes]],
    ) -> dict[str, list[bytes]]:  # fmt: skip
        certificates = sorted(set(self.certificates))
        make = ades.hash_index_v1 if plan.archive == "v3-old-index" else ades.hash_index
        index = self.at(f"{who}.index", make(certificates, unsigned))
        digest = sha256(content).digest()
        data = self.at(f"{who}.archived", ades.archive_input(digest, fields, index.der()))
        if plan.archive == "v2":
            return {ades.ARCHIVE_V2: [self.token(f"{who}.a1", data, NOW + self.plan.fetched + MINUTE)]}
        carried = self.at(f"{who}.carried", {index.kind: [index.der()]})
        token = self.token(f"{who}.a1", data, NOW + self.plan.fetched + MINUTE, unsigned=carried)
        return {ades.ARCHIVE_V3: [token]}

    # ----------------------------------------------------------------- revocation

    def _since(self, name: str, at: datetime) -> datetime | None:
        when = dict(self.plan.revoked).get(name)
        return NOW + when if when is not None and NOW + when <= at else None

    def answer(self, name: str, at: datetime, *, embedded: bool = False) -> Answer:
        """Return what OCSP says about an entity; ``name`` is a stage."""
        about = self.entities[name]
        issuer = next(key for key, one in self.entities.items() if one is about.issuer)
        answer = Answer(about, self.entities[f"ocsp-{issuer}"], at, at + HOUR, at,
                        revoked_at=self._since(name, at), reason=self.plan.reason)  # fmt: skip
        return self.at(f"embedded-ocsp:{name}" if embedded else f"ocsp:{name}", answer)

    def revocations(self, name: str, at: datetime, *, embedded: bool = False) -> RevocationList:
        """Return the CRL of an authority; ``name`` is a stage. One moment has one list."""
        stage = f"embedded-crl:{name}" if embedded else f"crl:{name}"
        if (stage, at) not in self._lists:
            issuer = self.entities[name]
            revoked = tuple(
                (one.profile.serial, since)
                for key, one in self.entities.items()
                if one.issuer is issuer and (since := self._since(key, at)) is not None
            )
            self._lists[stage, at] = self.at(
                stage, RevocationList(issuer, at, at + DAY, revoked, self.plan.reason)
            )
        return self._lists[stage, at]


def _time(at: datetime, form: str) -> bytes:
    if form == "fraction":
        return tlv(GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%S.5Z").encode())
    return generalized_time(at) if form == "generalized" else utctime(at)


def _unsigned_der(unsigned: Mapping[str, list[bytes]]) -> bytes:
    if not unsigned:
        return b""
    return tlv(0xA1, *sorted(ades.attribute(kind, *values) for kind, values in unsigned.items()))


def _with_unsigned(signer: bytes, unsigned: Mapping[str, list[bytes]]) -> bytes:
    members = pki.members(signer)
    return seq(*(node.whole for node in members), _unsigned_der(unsigned))


# --------------------------------------------------------------------------- verification


@dataclass
class Specimen:
    """A made message and how it is judged."""

    plan: Plan
    shop: Workshop
    trust: TrustStore = field(init=False)

    def __post_init__(self) -> None:
        roots = [self.shop.entities[name].der for name in ("root", "tsa-root")]
        self.trust = TrustStore(self.shop.at("roots", roots))

    @property
    def message(self) -> bytes:
        return self.shop.message

    @property
    def at(self) -> datetime:
        return NOW + self.plan.at

    @cached_property
    def policy(self) -> NesPolicy:
        return NesPolicy(**dict(self.plan.policy))

    def prepared(self) -> Prepared:
        source = BytesSource(self.message)
        moment = Moment.LATER if self.plan.later else Moment.RECEPTION
        proven = NOW + self.plan.proven if self.plan.proven is not None else None
        return prepare(
            source, scan(source), trust=self.trust, policy=self.policy, at=self.at, moment=moment,
            proven=proven,
        )  # fmt: skip

    def prepared_file(self) -> Prepared:
        """Prepare the bare signature with its content, as files beside each other."""
        content = BytesSource(self.shop.content) if self.plan.form == "detached" else None
        moment = Moment.LATER if self.plan.later else Moment.RECEPTION
        proven = NOW + self.plan.proven if self.plan.proven is not None else None
        return prepare_signature(
            self.shop.cms,
            content,
            trust=self.trust,
            policy=self.policy,
            at=self.at,
            moment=moment,
            proven=proven,
        )

    def judge_file(self) -> SenderReport:
        """Verify the bare signature as `judge` verifies the message."""
        prepared = self.prepared_file()
        return conclude(prepared, self.answers(prepared), self.at)

    def judge(self) -> SenderReport:
        """Verify the message, with the answers of the zoo's network."""
        prepared = self.prepared()
        return conclude(prepared, self.answers(prepared), self.at)

    def answers(self, prepared: Prepared) -> dict[bytes, RevocationAnswer | None]:
        """Ask the network about every certificate that the verification needs: OCSP, then the CRL."""
        names = {sha256(one.der).digest(): name for name, one in self.shop.entities.items()}
        found: dict[bytes, RevocationAnswer | None] = {}
        for facts, issuer in prepared.needs:
            found[facts.sha256] = self._answer(names[facts.sha256], facts, issuer)
        return found

    def _answer(self, name: str, facts: Any, issuer: Any) -> RevocationAnswer | None:
        network, at = self.plan.network, self.at
        asked = NOW + self.plan.asked if self.plan.asked is not None else at
        if network in {"ocsp", "both"}:
            answer = self.shop.answer(name, asked)
            try:
                return check_ocsp(answer.response(), facts, issuer, at=asked, trust=self.trust)
            except RevocationError:
                pass
        if network in {"crl", "both"}:
            above = next(
                key for key, one in self.shop.entities.items() if one is self.shop.entities[name].issuer
            )
            try:
                listed = check_crl(
                    self.shop.revocations(above, asked).der(), issuer, at=asked, trust=self.trust
                )
                return listed.answer(facts, asked)
            except RevocationError:
                pass
        return None


def make(plan: Plan) -> Specimen:
    """Make the message of a plan.

    Raises:
        KeyError: nobody knows this spoil.
    """
    from tests.support.nes_zoo_spoils import SPOILS  # noqa: PLC0415 - the tables need this module's types
    from tests.support.nes_zoo_variants import VARIANTS  # noqa: PLC0415

    known = {**SPOILS, **VARIANTS}
    return Specimen(plan, Workshop(plan, known[plan.spoil] if plan.spoil else None))
