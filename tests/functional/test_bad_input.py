"""The whole list of bad input: the SMTP answer, the stable code, and evidence 11 in Deliller where it is due."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from evidence.model.records import ReasonCode
from kephs.domain.refusals import RefusalCode
from tests.functional.refusal import check_refusal
from tests.functional.site import (
    LOCAL_MIB,
    Holder,
    Site,
    compose,
    fresh_message_id,
    now,
    sign,
)

MEHMET = "mehmet@hs91.kep.tr"
_FOLD = str.maketrans("çğıöşüâîûÇĞİÖŞÜÂÎÛ", "cgiosuaiuCGIOSUAIU")


@dataclass(frozen=True)
class Try:
    """One submission: who is signed in, what they send, to whom they tell the server to send it."""

    sender: Holder
    message: bytes
    recipients: tuple[str, ...] = (MEHMET,)
    envelope_from: str | None = None


Make = Callable[[Site, object], Try]
CASES: dict[str, tuple[RefusalCode, Make]] = {}


def case(name: str, code: RefusalCode) -> Callable[[Make], Make]:
    def note(make: Make) -> Make:
        CASES[name] = (code, make)
        return make

    return note


def _spoiled(site: Site, who, **defect) -> Try:
    """Ayşe's message, signed with a certificate of hers that has one defect."""
    bad = site.issue("Ayşe Yılmaz", who.ayse.tckn, **defect)
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET), bad))


def _edited(who, old: bytes, new: bytes, **message) -> Try:
    signed = sign(compose(who.ayse.address, MEHMET, **message), who.ayse.issued)
    assert old in signed
    return Try(who.ayse, signed.replace(old, new, 1))


# --------------------------------------------------------------------------- the signature


@case("unsigned", RefusalCode.UNSIGNED)
def _(site, who):
    return Try(who.ayse, compose(who.ayse.address, MEHMET))


@case("signed, but inside an unsigned mixed body", RefusalCode.UNSIGNED)
def _(site, who):
    inner = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    head, _, _ = inner.partition(b"Content-Type: multipart/signed")
    entity = inner[len(head) :]
    mixed = b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\n" + entity + b"\r\n--xx--\r\n"
    return Try(who.ayse, head + mixed)


@case("signature broken by one byte of the text", RefusalCode.SIGNATURE_BROKEN)
def _(site, who):
    return _edited(who, b"yenilenmeyecektir", b"yenilenmeyecektiR")


@case("signature broken by one byte of the signature", RefusalCode.SIGNATURE_BROKEN)
def _(site, who):
    signed = bytearray(sign(compose(who.ayse.address, MEHMET), who.ayse.issued))
    place = signed.rindex(b"\r\n--b") - 40  # well inside the signature value
    signed[place] = ord("A") if signed[place] != ord("A") else ord("B")
    return Try(who.ayse, bytes(signed))


@case("signed by a person who is no operator", RefusalCode.SIGNER_NOT_AUTHORISED)
def _(site, who):
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET), who.mehmet.issued))


@case("signed by an operator who may only read", RefusalCode.SIGNER_NOT_AUTHORISED)
def _(site, who):
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET), who.clerk.issued))


@case("certificate expired", RefusalCode.CERTIFICATE_EXPIRED)
def _(site, who):
    return _spoiled(site, who, not_before=now() - timedelta(days=400), not_after=now() - timedelta(days=1))


@case("certificate not valid yet", RefusalCode.CERTIFICATE_EXPIRED)
def _(site, who):
    return _spoiled(site, who, not_before=now() + timedelta(days=1))


@case("certificate revoked", RefusalCode.CERTIFICATE_REVOKED)
def _(site, who):
    bad = site.issue("Ayşe Yılmaz", who.ayse.tckn)
    site.pki.revoke(bad.serial, now() - timedelta(minutes=1))
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET), bad))


@case("certificate not qualified", RefusalCode.CERTIFICATE_NOT_QUALIFIED)
def _(site, who):
    return _spoiled(site, who, qualified=False)


@case("certificate without the statement of law 5070", RefusalCode.CERTIFICATE_NOT_QUALIFIED)
def _(site, who):
    return _spoiled(site, who, btk=False)


@case("certificate without nonRepudiation", RefusalCode.CERTIFICATE_NOT_QUALIFIED)
def _(site, who):
    return _spoiled(site, who, non_repudiation=False)


@case("a qualified seal where a person must sign", RefusalCode.CERTIFICATE_NOT_QUALIFIED)
def _(site, who):
    return _spoiled(site, who, seal=True)


@case("a transaction certificate", RefusalCode.CERTIFICATE_NOT_QUALIFIED)
def _(site, who):
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET), site.pki.transactions["hs91.kep.tr"]))


@case("an impostor's authority of the same name", RefusalCode.SIGNATURE_UNTRUSTED)
def _(site, who):
    return _spoiled(site, who, impostor=True)


@case("a key that is too short", RefusalCode.ALGORITHM_NOT_ALLOWED)
def _(site, who):
    return _spoiled(site, who, key="rsa1024")


@case("subject outside differs from the signed one", RefusalCode.HEADERS_DIFFER)
def _(site, who):
    entity = (
        b"Content-Type: message/rfc822\r\n\r\n"
        b"From: ayse@hs91.kep.tr\r\nTo: mehmet@hs91.kep.tr\r\nSubject: Baska bir konu\r\n\r\nMerhaba\r\n"
    )
    outer = compose(who.ayse.address, MEHMET).partition(b"Content-Type:")[0]
    return Try(who.ayse, sign(outer + entity, who.ayse.issued))


# --------------------------------------------------------------------------- recipients and sender


@case("a recipient at Gmail", RefusalCode.RECIPIENT_NOT_KEP)
def _(site, who):
    message = sign(compose(who.ayse.address, f"{MEHMET}, birisi@gmail.com"), who.ayse.issued)
    return Try(who.ayse, message, (MEHMET, "birisi@gmail.com"))


@case("a recipient at a provider nobody knows", RefusalCode.PROVIDER_UNKNOWN)
def _(site, who):
    message = sign(compose(who.ayse.address, "birisi@hs99.kep.tr"), who.ayse.issued)
    return Try(who.ayse, message, ("birisi@hs99.kep.tr",))


@case("a recipient more on the envelope than in To and Cc", RefusalCode.RECIPIENTS_DIFFER)
def _(site, who):
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    return Try(who.ayse, message, (MEHMET, who.fatma.address))


@case("a recipient less on the envelope than in To and Cc", RefusalCode.RECIPIENTS_DIFFER)
def _(site, who):
    message = sign(compose(who.ayse.address, MEHMET, cc=who.fatma.address), who.ayse.issued)
    return Try(who.ayse, message, (MEHMET,))


@case("Bcc", RefusalCode.BCC_PRESENT)
def _(site, who):
    message = sign(compose(who.ayse.address, MEHMET, more=f"Bcc: {who.fatma.address}"), who.ayse.issued)
    return Try(who.ayse, message, (MEHMET, who.fatma.address))


@case("From is another account", RefusalCode.FROM_DIFFERS)
def _(site, who):
    return Try(who.ayse, sign(compose(who.fatma.address, MEHMET), who.ayse.issued))


@case("envelope sender is another account", RefusalCode.FROM_DIFFERS)
def _(site, who):
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    return Try(who.ayse, message, envelope_from=who.fatma.address)


@case("sender's account is blocked", RefusalCode.ACCOUNT_BLOCKED)
def _(site, who):
    return Try(who.blocked, sign(compose(who.blocked.address, MEHMET), who.blocked.issued))


@case("sender may only receive", RefusalCode.ACCOUNT_RECEIVE_ONLY)
def _(site, who):
    return Try(who.receiver, sign(compose(who.receiver.address, MEHMET), who.receiver.issued))


@case("an operator who may only read is signed in", RefusalCode.NO_RIGHT_TO_SEND)
def _(site, who):
    return Try(who.clerk, sign(compose(who.ayse.address, MEHMET), who.ayse.issued))


@case("sender's mailbox is over its quota", RefusalCode.OVER_QUOTA)
def _(site, who):
    return Try(who.full, sign(compose(who.full.address, MEHMET), who.full.issued))


# --------------------------------------------------------------------------- size and form


@case("too big", RefusalCode.TOO_BIG)
def _(site, who):
    body = ("Ş" * 400 + "\r\n") * (LOCAL_MIB * 1_310)
    return Try(who.ayse, sign(compose(who.ayse.address, MEHMET, body=body), who.ayse.issued))


@case("not MIME", RefusalCode.NOT_MIME)
def _(site, who):
    return _edited(who, b"MIME-Version: 1.0\r\n", b"")


@case("more structure than any message has", RefusalCode.NOT_MIME)
def _(site, who):
    signed = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    return Try(who.ayse, b"".join(b"X-%d: x\r\n" % number for number in range(3_000)) + signed)


@case("two From fields", RefusalCode.HEADER_INVALID)
def _(site, who):
    message = sign(compose(who.ayse.address, MEHMET, more=f"From: {who.ayse.address}"), who.ayse.issued)
    return Try(who.ayse, message)


@case("NUL", RefusalCode.NUL_BYTE)
def _(site, who):
    return _edited(who, b"yenilenmeyecektir", b"yenilenmeye\0ektir")


@case("a line of 999 characters", RefusalCode.LINE_TOO_LONG)
def _(site, who):
    return _edited(who, b"yenilenmeyecektir", b"x" * 999)


@case("a very long line", RefusalCode.LINE_TOO_LONG)
def _(site, who):
    return _edited(who, b"yenilenmeyecektir", b"x" * 200_000)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_its_code_both_texts_and_evidence_11(site: Site, who, name: str):
    code, make = CASES[name]
    attempt = make(site, who)
    answer = site.submit(
        attempt.sender, attempt.message, list(attempt.recipients), envelope_from=attempt.envelope_from
    )
    check_refusal(site, attempt.sender, answer, code)
    ((message_id,),) = site.rows("SELECT message_id FROM evidence WHERE evidence_id = ?", answer.evidence_id)
    assert site.evidence_kinds(message_id) == [11]
    assert site.rows("SELECT 1 FROM deliveries WHERE message_id = ?", message_id) == []


# --------------------------------------------------------------------------- EICAR

_EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@pytest.mark.tools
def test_malware_is_refused_with_evidence_11(site: Site, who):
    message = sign(compose(who.ayse.address, MEHMET, body=_EICAR + "\r\n"), who.ayse.issued)
    answer = site.submit(who.ayse, message, [MEHMET])
    check_refusal(site, who.ayse, answer, RefusalCode.MALWARE)


# --------------------------------------------------------------------------- one recipient of several


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        ("hickimse", ReasonCode.UNKNOWN_RECIPIENT),
        ("kapali", ReasonCode.UNKNOWN_RECIPIENT),
        ("bloke", ReasonCode.POLICY_VIOLATION),
    ],
)
def test_an_address_that_cannot_receive_gets_41_while_the_others_get_the_message(
    site: Site, who, local: str, reason: ReasonCode
):
    address = f"{local}@hs91.kep.tr"
    message = sign(compose(who.ayse.address, f"{address}, {MEHMET}"), who.ayse.issued)
    answer = site.submit(who.ayse, message, [address, MEHMET])
    assert answer.code == 250, answer
    (failed,) = site.wait_evidence(answer.message_id, 41)
    (delivered,) = site.wait_evidence(answer.message_id, 40)
    record = site.record(who.ayse, failed)
    assert [one.code for one in record.reasons] == [reason]
    assert record.recipients[(record.refers_to or 0) - 1].address == address
    record = site.record(who.ayse, delivered)
    assert record.recipients[(record.refers_to or 0) - 1].address == MEHMET


def test_a_full_mailbox_still_receives(site: Site, who):
    message = sign(compose(who.ayse.address, who.full.address), who.ayse.issued)
    answer = site.submit(who.ayse, message, [who.full.address])
    assert answer.code == 250
    assert site.wait_evidence(answer.message_id, 40)


# --------------------------------------------------------------------------- duplicates


def test_the_same_message_again_gets_the_first_answer_and_no_new_evidence(site: Site, who):
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    first = site.submit(who.ayse, message, [MEHMET])
    site.wait_evidence(first.message_id, 40)
    again = site.submit(who.ayse, message, [MEHMET])
    assert (again.code, again.evidence_id, again.message_id) == (250, first.evidence_id, first.message_id)
    assert site.evidence_kinds(first.message_id) == [10, 40]
    assert site.traces(message) == 1


def test_the_same_message_id_with_other_bytes_is_refused(site: Site, who):
    same = fresh_message_id()
    first = sign(compose(who.ayse.address, MEHMET, message_id=same), who.ayse.issued)
    other = sign(compose(who.ayse.address, MEHMET, message_id=same, body="Baska.\r\n"), who.ayse.issued)
    assert site.submit(who.ayse, first, [MEHMET]).code == 250
    answer = site.submit(who.ayse, other, [MEHMET])
    check_refusal(site, who.ayse, answer, RefusalCode.DUPLICATE_ID)


def test_a_refused_message_id_may_be_used_again(site: Site, who):
    same = fresh_message_id()
    unsigned = compose(who.ayse.address, MEHMET, message_id=same)
    assert site.submit(who.ayse, unsigned, [MEHMET]).code == 550
    assert site.submit(who.ayse, sign(unsigned, who.ayse.issued), [MEHMET]).code == 250
