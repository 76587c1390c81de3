"""Every refusal code has a two-line SMTP reply with our code, and evidence where it exists."""

from dataclasses import replace

import pytest

from evidence.nes.sentences import SENTENCES
from kephs.domain.refusals import TEXTS, Refusal, RefusalCode
from kephs.usecases.submission.results import Accepted, Refused
from smtp_gateway.replies import accepted, busy, coded, refused


@pytest.mark.parametrize("code", list(RefusalCode))
@pytest.mark.parametrize("utf8", [True, False])
def test_every_code_answers_in_english_then_turkish(code, utf8):
    reply = refused(Refused(Refusal(code), evidence_id="ev123" if TEXTS[code].reason else None), utf8=utf8)
    english, turkish = reply.text.split(b"\r\n")
    public = TEXTS[code]
    assert english.startswith(f"{public.smtp}-{public.enhanced} [{code}]".encode())
    assert turkish.startswith(f"{public.smtp} {public.enhanced} [{code}]".encode())
    assert (b"evidence=ev123" in english) is bool(public.reason)
    assert (b"evidence=ev123" in turkish) is bool(public.reason)
    assert (public.english.encode() in english) is (utf8 or public.english.isascii())
    assert (public.turkish.encode() in turkish) is (utf8 or public.turkish.isascii())
    assert utf8 or turkish.isascii()
    assert reply.close is (public.smtp in {421, 521})
    assert max(len(english), len(turkish)) <= 510


def test_turkish_letters_are_folded_for_clients_without_smtputf8():
    reply = coded(RefusalCode.BARE_LINE_ENDING, utf8=False)
    assert b"Bir satir yalniz CR ya da LF ile bitiyor" in reply.text


def test_acceptance_names_evidence_and_message():
    assert accepted(Accepted("e1", "m1")).text == b"250 2.0.0 accepted evidence=e1 message=m1"


def test_named_recipients_cannot_break_out_of_the_line():
    refusal = Refusal(RefusalCode.RECIPIENT_NOT_KEP, recipients=("a@b\r\n250 OK", "ş@x", "c" * 2000))
    for utf8 in (True, False):
        lines = refused(Refused(refusal), utf8=utf8).text.split(b"\r\n")
        assert len(lines) == 2
        assert all(len(line) <= 510 and b"a@b??250 OK" in line for line in lines)


@pytest.mark.parametrize("finding", sorted(SENTENCES))
@pytest.mark.parametrize("utf8", [True, False])
def test_every_finding_of_the_verifier_is_told_in_a_line_behind_each_text(finding: str, utf8: bool):
    refusal = Refusal(RefusalCode.SIGNATURE_INCOMPLETE, "gizli", finding=finding)
    lines = refused(Refused(refusal, evidence_id="ev123"), utf8=utf8).text.split(b"\r\n")
    turkish, english = SENTENCES[finding]
    plain = refused(Refused(replace(refusal, finding="")), utf8=utf8).text.split(b"\r\n")
    assert [line[:9] for line in lines] == [b"550-5.7.7"] * 3 + [b"550 5.7.7"]
    assert b"[signature-incomplete] evidence=ev123" in lines[0]
    assert lines[0].endswith(plain[0][-40:])
    assert lines[2].endswith(plain[1][-40:])
    assert lines[1].startswith(f"550-5.7.7 {finding}: {english[:10]}".encode())
    assert lines[3].startswith(f"550 5.7.7 {finding}: ".encode())
    assert (turkish.encode() in lines[3]) is (utf8 or turkish.isascii())
    assert b"gizli" not in b"".join(lines)
    assert all(len(line) <= 510 and (utf8 or line.isascii()) for line in lines)


@pytest.mark.parametrize("finding", ["", "no-such-finding", "a@b\r\n250 OK"])
def test_what_is_no_finding_of_the_table_is_never_told(finding: str):
    refusal = Refusal(RefusalCode.SIGNATURE_BROKEN, finding=finding)
    assert refused(Refused(refusal), utf8=False) == coded(RefusalCode.SIGNATURE_BROKEN, utf8=False)


def test_a_finding_that_asks_for_patience_keeps_its_temporary_code():
    refusal = Refusal(RefusalCode.REVOCATION_UNKNOWN, finding="revocation-unknown")
    lines = refused(Refused(refusal), utf8=False).text.split(b"\r\n")
    assert [line[:9] for line in lines[:-1]] == [b"451-4.7.5"] * (len(lines) - 1)
    assert lines[-1].startswith(b"451 4.7.5 ")


def test_busy_ends_the_session():
    assert busy().close
    assert busy().text.startswith(b"421-4.3.2 [busy]")
