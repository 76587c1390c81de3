"""The one table of refusals: complete, and as the rules give it."""

import re
from pathlib import Path

import pytest

from evidence.model.records import ReasonCode
from kephs.domain.refusals import TEXTS, PublicText, Refusal, RefusalCode

C = RefusalCode
each_row = pytest.mark.parametrize(("code", "text"), TEXTS.items(), ids=[code.value for code in TEXTS])

# rules-in-detail, "One table of codes": SMTP code, enhanced status, evidence reason, and the codes of that row.
ROWS: list[tuple[int, str, int | None, set[RefusalCode]]] = [
    (550, "5.1.1", 10, {C.RECIPIENT_UNKNOWN}),
    (550, "5.1.2", 5, {C.RECIPIENT_NOT_KEP, C.PROVIDER_UNKNOWN, C.RECIPIENTS_MISSING}),
    (550, "5.7.1", 3, {C.UNSIGNED}),
    (
        550,
        "5.7.1",
        5,
        {
            C.FROM_DIFFERS,
            C.BCC_PRESENT,
            C.SIGNER_NOT_AUTHORISED,
            C.CERTIFICATE_WITHDRAWN,
            C.CERTIFICATE_NOT_BOUND,
            C.ACCOUNT_BLOCKED,
            C.ACCOUNT_RECEIVE_ONLY,
            C.NO_RIGHT_TO_SEND,
            C.RECIPIENT_BLOCKED,
            C.RECIPIENTS_DIFFER,
            C.HEADERS_DIFFER,
            C.OVER_QUOTA,
            C.DUPLICATE_ID,
        },
    ),
    (550, "5.7.7", 3, {C.SIGNATURE_BROKEN, C.SIGNATURE_INCOMPLETE}),
    (550, "5.7.5", 4, {C.CERTIFICATE_EXPIRED, C.CERTIFICATE_REVOKED}),
    (550, "5.7.5", 3, {C.SIGNATURE_UNTRUSTED, C.CERTIFICATE_NOT_QUALIFIED, C.ALGORITHM_NOT_ALLOWED}),
    (554, "5.7.1", 2, {C.MALWARE}),
    (554, "5.6.0", 1, {C.NOT_MIME, C.NUL_BYTE, C.LINE_TOO_LONG, C.HEADER_INVALID}),
    (521, "5.5.2", None, {C.BARE_LINE_ENDING}),
    (552, "5.3.4", 5, {C.TOO_BIG, C.TOO_BIG_FOR_PROVIDER}),
    (550, "5.5.3", 5, {C.TOO_MANY_RECIPIENTS}),
    (451, "4.7.5", None, {C.REVOCATION_UNKNOWN}),
    (451, "4.3.0", None, {C.SEALING_UNAVAILABLE, C.SCANNER_UNAVAILABLE, C.STORE_UNAVAILABLE}),
    (421, "4.3.2", None, {C.BUSY}),
]
# Between providers: no evidence about what nobody answers for (ADR 0021).
BETWEEN: list[tuple[int, str, int | None, set[RefusalCode]]] = [
    (550, "5.7.1", None, {C.NOT_A_KEP_MESSAGE, C.RECEIPT_UNMATCHED, C.NOT_SERVED_HERE}),
    (550, "5.7.7", None, {C.SEAL_BROKEN, C.EVIDENCE_NOT_THE_PEERS}),
    (550, "5.7.5", None, {C.SEAL_NOT_REGISTERED, C.SEAL_REVOKED}),
    (550, "5.7.5", 22, {C.SEAL_EXPIRED}),
    (554, "5.6.0", 1, {C.ORIGINAL_DIFFERS}),
    (550, "5.4.6", None, {C.MAIL_LOOP}),
    (530, "5.7.0", None, {C.TLS_REQUIRED}),
    (451, "4.3.0", None, {C.CLOCK_DIFFERS, C.REGISTER_NOT_CURRENT}),
]

# The connection closes before there is a message; or nobody we know answers for it (ADR 0021).
WITHOUT_EVIDENCE = {
    C.BARE_LINE_ENDING,
    C.NOT_A_KEP_MESSAGE,
    C.SEAL_BROKEN,
    C.SEAL_NOT_REGISTERED,
    C.SEAL_REVOKED,
    C.EVIDENCE_NOT_THE_PEERS,
    C.RECEIPT_UNMATCHED,
    C.MAIL_LOOP,
    C.NOT_SERVED_HERE,
    C.TLS_REQUIRED,
}


def test_every_code_has_its_row_and_every_row_its_code() -> None:
    assert set(TEXTS) == set(RefusalCode)


def test_the_rows_are_those_of_the_rules() -> None:
    wanted = {
        code: (smtp, enhanced, reason)
        for smtp, enhanced, reason, codes in [*ROWS, *BETWEEN]
        for code in codes
    }
    assert {code: (text.smtp, text.enhanced, text.reason) for code, text in TEXTS.items()} == wanted


@pytest.mark.shared
def test_every_row_of_the_written_rules_is_in_the_table(shared: Path) -> None:
    page = (shared / "design" / "rules-in-detail.md").read_text(encoding="utf-8")
    table = page.split("## One table of codes")[1].split("\n## ")[0]
    answers = re.findall(r"\| (\d{3}) (\d\.\d\.\d)[^|]*\| ([^|]*) \|", table)
    assert len(answers) == 14
    beside = {code for *_, codes in BETWEEN for code in codes}
    written = [text for code, text in TEXTS.items() if code not in beside]
    ours = {(str(text.smtp), text.enhanced) for text in written}
    assert {answer[:2] for answer in answers} == ours
    for smtp, enhanced, reasons in answers:
        wanted = {int(number) for number in re.findall(r"\d+", reasons)}
        here = {t.reason for t in written if (str(t.smtp), t.enhanced) == (smtp, enhanced)}
        assert {int(reason) for reason in here if reason is not None} >= wanted, (smtp, enhanced)
        assert (None in here) == (not wanted), (smtp, enhanced)


@each_row
def test_a_code_is_stable_and_fits_into_addresses(code: RefusalCode, text: PublicText) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code.value)


@each_row
def test_the_enhanced_status_agrees_with_the_smtp_code(code: RefusalCode, text: PublicText) -> None:
    assert re.fullmatch(r"[45]\.[0-7]\.\d{1,3}", text.enhanced)
    assert text.enhanced[0] == str(text.smtp)[0]


@each_row
def test_what_can_be_tried_again_leaves_no_evidence(code: RefusalCode, text: PublicText) -> None:
    assert text.temporary == (400 <= text.smtp < 500)
    if code in WITHOUT_EVIDENCE:
        assert text.reason is None
    else:
        assert text.temporary == (text.reason is None)


@each_row
def test_both_languages_say_something_that_fits_into_a_reply_line(
    code: RefusalCode, text: PublicText
) -> None:
    assert text.english.replace("Sadece Alıcı", "").isascii()  # the one term of law that stays Turkish
    assert text.english != text.turkish
    for words in (text.english, text.turkish):
        assert words == words.strip()
        assert words.endswith((".", ")."))
        assert words.isprintable()
        assert 15 <= len(words) <= 200


@each_row
def test_the_words_are_those_of_the_law_and_of_the_glossary(code: RefusalCode, text: PublicText) -> None:
    assert "kanıt" not in text.turkish.lower()
    assert "gönderildi" not in text.turkish.lower()
    assert "%" not in text.english + text.turkish
    assert "{" not in text.english + text.turkish


def test_soap_status_numbers_are_unique_and_say_whether_to_retry() -> None:
    numbers = [text.durum for text in TEXTS.values()]
    assert len(set(numbers)) == len(numbers)
    assert all((text.durum >= 200) == text.temporary for text in TEXTS.values())
    assert 0 not in numbers  # 0 is success


def test_a_full_mailbox_is_never_a_reason() -> None:
    assert ReasonCode.MAILBOX_FULL not in {text.reason for text in TEXTS.values()}  # KEP-RC-09


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TEXTS[RefusalCode.BUSY] = TEXTS[RefusalCode.MALWARE]  # type: ignore[index]


def test_the_cause_of_a_refusal_is_not_in_its_public_text() -> None:
    refusal = Refusal(RefusalCode.SIGNATURE_UNTRUSTED, "issuer CN=Gizli Kok not in store")
    assert refusal.text is TEXTS[RefusalCode.SIGNATURE_UNTRUSTED]
    assert refusal.finding == ""
    assert "Gizli" not in refusal.text.english + refusal.text.turkish
