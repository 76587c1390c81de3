"""Every refusal code has a two-line SMTP reply with our code, and evidence where it exists."""

import pytest

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


def test_busy_ends_the_session():
    assert busy().close
    assert busy().text.startswith(b"421-4.3.2 [busy]")
