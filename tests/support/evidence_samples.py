"""Evidence records that tests share: one per kind, every optional field used somewhere."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from evidence.model.records import (
    NAMES,
    Authentication,
    EvidenceKind,
    EvidenceRecord,
    Issuer,
    MessageFacts,
    Party,
    Reason,
    ReasonCode,
)

AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
HS91 = Issuer(
    name="TEST Örnek KEP Hizmet Sağlayıcısı A.Ş.",
    address="kep-hizmet@hs91.kep.tr",
    policy_id="https://hs91.kep.tr/kep-ilkeleri",
    street="Büyükdere Cd. 2",
    locality="İstanbul",
    postal_code="34330",
)
MESSAGE = MessageFacts(
    subject="Deneme iletisi <1> & ötesi",
    user_message_id="<abc123@mua.example>",
    kep_message_id="kep-000001.20261121@hs91.kep.tr",
    digest_sha256=sha256(b"original").digest(),
)
METHOD = "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract"


def record(kind: EvidenceKind = EvidenceKind.DELIVERY, **changes: object) -> EvidenceRecord:
    """Return a full record of this kind; keyword arguments replace fields."""
    names = NAMES[kind]
    fields: dict[str, object] = {
        "kind": kind,
        "evidence_id": f"000{kind.value}.20261121@hs91.kep.tr",
        "event_time": AT + timedelta(minutes=6, milliseconds=250),
        "submission_time": AT,
        "issuer": HS91,
        "sender": Party("ayse@hs91.kep.tr", "Ayşe Yılmaz"),
        "recipients": (Party("kurum@hs91.kep.tr", "Örnek Kurum"), Party("mehmet@hs91.kep.tr")),
        "message": MESSAGE,
        "reasons": (Reason(ReasonCode.UNKNOWN_RECIPIENT, "recipient.unknown: no such address"),)
        if names.negative
        else (),
        "refers_to": 1 if names.per_recipient else None,
        "sender_authentication": Authentication(AT - timedelta(minutes=1), METHOD, "Ayşe Yılmaz"),
    }
    if kind is EvidenceKind.RETRIEVAL:
        fields["recipient_authentication"] = Authentication(AT, METHOD, "Mehmet Çelik")
        fields["delegate"] = Party("mehmet@hs91.kep.tr", "Mehmet Çelik")
    return EvidenceRecord(**(fields | changes))  # type: ignore[arg-type]
