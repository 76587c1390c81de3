"""A refused signature: the reply names the verifier's own finding; evidence and status codes stay as they were."""

import re
from datetime import timedelta
from types import SimpleNamespace

import pytest

from evidence.model.records import EvidenceRecord
from evidence.nes.sentences import SENTENCES
from kephs.domain.refusals import TEXTS, RefusalCode
from tests.functional.refusal import check_refusal
from tests.functional.site import Answer, Holder, Site, compose, now, sign, until

_FOLD = str.maketrans("çğıöşüâîûÇĞİÖŞÜÂÎÛ", "cgiosuaiuCGIOSUAIU")
SUBJECT = "Gizlidir"


def letter(who: SimpleNamespace) -> bytes:
    return compose(who.ayse.address, who.mehmet.address, subject=SUBJECT)


def submit(site: Site, who: SimpleNamespace, message: bytes) -> Answer:
    return site.submit(who.ayse, message, [who.mehmet.address])


def told(answer: Answer) -> list[str]:
    """Return the codes of the findings that the reply's lines name, in order."""
    return re.findall(r"^(?:\d\.\d\.\d )?([a-z]+(?:-[a-z]+)*): ", answer.text, re.MULTILINE)


def receipt(site: Site, sender: Holder, answer: Answer) -> EvidenceRecord:
    assert answer.evidence_id is not None
    record = site.receipt(sender, answer.evidence_id)[1].record
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("defect", "code", "finding"),
    [
        ({"qualified": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED, "not-qualified"),
        ({"non_repudiation": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED, "no-non-repudiation"),
        ({"user_notice": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED, "no-user-notice"),
        ({"mali_muhur": True}, RefusalCode.CERTIFICATE_NOT_QUALIFIED, "mali-muhur"),
        ({"seal": True}, RefusalCode.CERTIFICATE_NOT_QUALIFIED, "seal-not-allowed"),
        (
            {"not_before": timedelta(-90), "not_after": timedelta(-1)},
            RefusalCode.CERTIFICATE_EXPIRED,
            "expired",
        ),
    ],
    ids=["qualified", "key-usage", "notice", "mali-muhur", "seal", "expired"],
)
def test_the_reply_names_the_one_finding_that_decided_in_both_languages(
    site: Site, who, defect: dict[str, object], code: RefusalCode, finding: str
):
    defect = {name: now() + one if isinstance(one, timedelta) else one for name, one in defect.items()}
    answer = submit(site, who, sign(letter(who), site.issue("Ayşe Yılmaz", who.ayse.tckn, **defect)))
    check_refusal(site, who.ayse, answer, code)
    turkish, english = (text.translate(_FOLD) for text in SENTENCES[finding])
    assert told(answer) == [finding, finding]
    assert f"{finding}: {english}" in answer.text
    assert f"{finding}: {turkish}" in answer.text
    (reason,) = receipt(site, who.ayse, answer).reasons
    assert reason.details == f"{code.value}: {TEXTS[code].english}", "the evidence's reason is as before"


def test_nothing_of_the_letter_stands_in_the_reply(site: Site, who):
    signed = sign(letter(who), who.ayse.issued)
    answer = submit(site, who, signed.replace(b"yenilenmeyecektir", b"yenilenecektir"))
    check_refusal(site, who.ayse, answer, RefusalCode.SIGNATURE_BROKEN)
    assert told(answer) == ["digest-differs"] * 2
    for word in (who.mehmet.address, SUBJECT, "yenilen", who.ayse.tckn, who.ayse.name):
        assert word not in answer.text


def test_its_twin_without_a_defect_is_accepted(site: Site, who):
    assert submit(site, who, sign(letter(who), who.ayse.issued)).code == 250


def test_an_authority_that_is_silent_is_told_too_and_leaves_no_evidence(site: Site, who):
    message = sign(letter(who), site.issue("Ayşe Yılmaz", who.ayse.tckn))
    with site.silent_pki():
        answer = submit(site, who, message)
    assert (answer.code, answer.enhanced, answer.evidence_id) == (451, "4.7.5", None)
    assert told(answer) == ["no-revocation-answer"] * 2
    until(lambda: submit(site, who, message).code == 250, "the same letter to be accepted")


def test_a_refusal_that_is_not_the_signatures_names_no_finding(site: Site, who):
    answer = submit(site, who, letter(who))
    check_refusal(site, who.ayse, answer, RefusalCode.UNSIGNED)
    stranger = sign(letter(who), who.mehmet.issued)
    refused = submit(site, who, stranger)
    check_refusal(site, who.ayse, refused, RefusalCode.SIGNER_NOT_AUTHORISED)
    assert told(answer) == told(refused) == []
