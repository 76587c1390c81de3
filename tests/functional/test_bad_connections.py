"""Bad input before and around the content: limits, line ends, broken connections, silent services."""

import smtplib
import socket
from typing import Self

import pytest

from kephs.domain.refusals import TEXTS, RefusalCode
from tests.functional.refusal import check_refusal
from tests.functional.site import LOCAL_MIB, Holder, Site, compose, fresh_message_id, sign, until

MEHMET = "mehmet@hs91.kep.tr"


# --------------------------------------------------------------------------- before DATA: no evidence


def test_501_recipients_are_refused_for_good_and_as_a_whole(site: Site, who):
    addresses = [f"alici{number}@hs91.kep.tr" for number in range(501)]
    to = ",\r\n ".join(addresses)
    message = sign(compose(who.ayse.address, to), who.ayse.issued)
    answer = site.submit(who.ayse, message, addresses)
    assert set(answer.recipients[:500]) == {250}
    assert answer.recipients[500] == 550
    check_refusal(site, who.ayse, answer, RefusalCode.TOO_MANY_RECIPIENTS)


def test_a_declared_size_beyond_the_limit_is_refused_before_the_content(site: Site, who):
    with site.smtp(who.ayse) as client:
        client.ehlo_or_helo_if_needed()
        code, text = client.mail(who.ayse.address, [f"SIZE={LOCAL_MIB * 2 << 20}"])
    assert (code, text.split()[0]) == (552, b"5.3.4")
    assert b"[too-big]" in text


def test_a_client_that_reads_utf8_gets_turkish_letters(site: Site, who):
    with site.smtp(who.ayse) as client:
        client.ehlo_or_helo_if_needed()
        client.mail(who.ayse.address, ["SMTPUTF8"])
        client.rcpt(MEHMET)
        code, text = client.data(compose(who.ayse.address, MEHMET))
    assert code == 550
    assert TEXTS[RefusalCode.UNSIGNED].turkish in text.decode()


def test_nobody_sends_without_signing_in(site: Site, who):
    with site.smtp() as client:
        client.ehlo()
        code, text = client.mail(who.ayse.address)
    assert (code, text.split()[0]) == (530, b"5.7.0")


def test_a_wrong_password_is_refused_alike_for_known_and_unknown_addresses(site: Site, who):
    answers = []
    for address in (who.fatma.address, "hickimse@hs91.kep.tr"):
        with site.smtp() as client, pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login(address, "yanlis-yanli-yanli-yanli-yanli")
        answers.append((caught.value.smtp_code, bytes(caught.value.smtp_error)))  # type: ignore[arg-type]
    assert answers[0] == answers[1]
    assert answers[0][0] == 535
    assert answers[0][1].startswith(b"5.7.8")


@pytest.mark.parametrize("bare", [b"\n", b"\r"], ids=["LF", "CR"])
def test_a_bare_line_ending_ends_the_connection_without_evidence(site: Site, who, bare: bytes):
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    with _raw(site, who.ayse, [MEHMET]) as client:
        client.sendall(
            message.replace(b"yenilenmeyecektir", b"yenilen" + bare + b"meyecektir") + b"\r\n.\r\n"
        )
        code, text = client.getreply()
        assert (code, text.split()[0]) == (521, b"5.5.2")
        assert b"[bare-line-ending]" in text
        assert client.recv(1) == b""
    assert site.traces(message) == 0


def test_smuggling_with_a_bare_lf_dot_is_refused(site: Site, who):
    smuggled = b"merhaba\n.\nMAIL FROM:<ayse@hs91.kep.tr>\r\n"
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    with _raw(site, who.ayse, [MEHMET]) as client:
        client.sendall(message + smuggled + b".\r\n")
        assert client.getreply()[0] == 521
    assert site.traces(message) == 0


# --------------------------------------------------------------------------- connections that break


def test_a_connection_cut_in_data_leaves_nothing(site: Site, who):
    message_id = fresh_message_id()
    message = sign(compose(who.ayse.address, MEHMET, message_id=message_id), who.ayse.issued)
    with _raw(site, who.ayse, [MEHMET]) as client:
        client.sendall(message[: len(message) // 2])
        client.close()
    answer = site.submit(who.ayse, message, [MEHMET])  # nothing stands in the way of a second try
    assert answer.code == 250
    site.wait_evidence(answer.message_id, 40)
    assert site.evidence_kinds(answer.message_id) == [10, 40]
    assert site.traces(message) == 1


def test_a_large_message_cut_in_data_leaves_no_file(site: Site, who):
    message = compose(who.ayse.address, MEHMET, body=("Ş" * 400 + "\r\n") * 2_000)
    temporary = site.settings.storage.blobs / "temp"
    with _raw(site, who.ayse, [MEHMET]) as client:
        client.sendall(message)
        until(lambda: any(temporary.iterdir()), "the file of the message on its way")
        client.close()
    until(lambda: not any(temporary.iterdir()), "the file to be gone")


def test_a_client_that_never_saw_the_reply_gets_the_first_answer_on_its_second_try(site: Site, who):
    message_id = fresh_message_id()
    message = sign(compose(who.ayse.address, MEHMET, message_id=message_id), who.ayse.issued)
    with _raw(site, who.ayse, [MEHMET]) as client:
        client.sendall(message + b".\r\n")
        client.shutdown(socket.SHUT_RD)
        client.close()
    query = "SELECT message_id FROM messages WHERE user_message_id = ? AND state <> 'refused'"
    ((stored,),) = until(lambda: site.rows(query, message_id), "the message that was committed")
    answer = site.submit(who.ayse, message, [MEHMET])
    assert (answer.code, answer.message_id) == (250, stored)
    assert site.evidence_ids(stored, 10) == [answer.evidence_id]


class _raw:  # noqa: N801  # a context manager used like a function
    """A connection that stands right after the 354."""

    def __init__(self, site: Site, sender: Holder, recipients: list[str]) -> None:
        self._client = site.smtp(sender)
        self._client.mail(sender.address)
        for recipient in recipients:
            self._client.rcpt(recipient)
        assert self._client.docmd("DATA")[0] == 354
        self.getreply, self.close = self._client.getreply, self._client.close

    @property
    def _socket(self) -> socket.socket:
        assert self._client.sock is not None
        return self._client.sock

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def recv(self, size: int) -> bytes:
        return self._socket.recv(size)

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *caught: object) -> None:
        self._client.close()


# --------------------------------------------------------------------------- outside services are silent


def test_silent_ocsp_and_crl_mean_try_later_and_leave_no_trace(site: Site, who):
    fresh = site.issue("Ayşe Yılmaz", who.ayse.tckn)  # nobody has asked about this one yet
    message = sign(compose(who.ayse.address, MEHMET), fresh)
    with site.silent_pki():
        answer = site.submit(who.ayse, message, [MEHMET])
    assert (answer.code, answer.enhanced, answer.stable_code) == (451, "4.7.5", "revocation-unknown")
    assert answer.evidence_id is None
    assert site.traces(message) == 0
    until(lambda: site.submit(who.ayse, message, [MEHMET]).code == 250, "the same message to be accepted")


def test_a_silent_time_stamper_means_try_later_and_leaves_no_trace(site: Site, who):
    first = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    assert site.submit(who.ayse, first, [MEHMET]).code == 250  # OCSP's answer is fresh from now on
    message = sign(compose(who.ayse.address, MEHMET), who.ayse.issued)
    with site.silent_pki():
        answer = site.submit(who.ayse, message, [MEHMET])
        assert site.traces(message) == 0
    assert (answer.code, answer.enhanced, answer.stable_code) == (451, "4.3.0", "sealing-unavailable")
    assert site.submit(who.ayse, message, [MEHMET]).code == 250
