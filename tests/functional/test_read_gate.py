"""The read gate over the real server: what makes evidence 60, what does not, and how often."""

import imaplib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.functional.site import Site, compose, sign, until


def _delivered(site: Site, who, *, to=None) -> str:
    to = to or who.mehmet
    message = sign(compose(who.ayse.address, to.address), who.ayse.issued)
    answer = site.submit(who.ayse, message, [to.address])
    site.wait_evidence(answer.message_id, 40)
    return answer.message_id


HARMLESS = [
    "FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "FULL", "ALL", "FAST",
    "BODY[HEADER]", "BODY.PEEK[HEADER]", "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]", "BODY.PEEK[1.MIME]", "RFC822.HEADER",
]  # fmt: skip
CONTENT = [
    "BODY[]", "BODY.PEEK[]", "BODY.PEEK[]<0.1>", "BODY[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[1.1]", "RFC822",
    "RFC822.TEXT", "BODY.PEEK[1.4.HEADER]", "BODY.PEEK[1]<0.1>",
]  # fmt: skip


@pytest.mark.parametrize("readonly", [False, True], ids=["SELECT", "EXAMINE"])
def test_looking_at_headers_makes_no_evidence_60_and_one_byte_of_content_makes_exactly_one(
    site: Site, who, readonly: bool
):
    message_id = _delivered(site, who)
    with site.imap(who.mehmet, readonly=readonly) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id).decode()
        for item in HARMLESS:
            kind, _ = client.uid("FETCH", uid, item if item.isupper() and " " not in item else f"({item})")
            assert kind == "OK", item
        client.uid("SEARCH", "TEXT", "sozlesme")
        assert site.evidence_ids(message_id, 60) == []
        assert len(site.fetch(client, uid.encode(), "BODY.PEEK[]<0.1>")) == 1
        assert len(site.evidence_ids(message_id, 60)) == 1
        for item in CONTENT:
            client.uid("FETCH", uid, f"({item})")
    assert len(site.evidence_ids(message_id, 60)) == 1


@pytest.mark.parametrize("item", CONTENT)
def test_every_kind_of_content_fetch_is_gated(site: Site, who, item: str):
    message_id = _delivered(site, who)
    with site.imap(who.mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id).decode()
        kind, _ = client.uid("FETCH", uid, f"({item})")
        assert kind == "OK"
        assert len(site.evidence_ids(message_id, 60)) == 1


def test_setting_seen_alone_makes_no_evidence_60(site: Site, who):
    message_id = _delivered(site, who)
    with site.imap(who.mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id).decode()
        client.uid("STORE", uid, "+FLAGS", r"(\Seen)")
    assert site.evidence_ids(message_id, 60) == []


def test_two_readers_at_once_make_one_evidence_60(site: Site, who):
    message_id = _delivered(site, who)

    def read() -> int:
        with site.imap(who.mehmet) as client:
            uid = site.find(client, "X-REM-Message-Identifier", message_id)
            return len(site.fetch(client, uid, "BODY.PEEK[]"))

    with ThreadPoolExecutor(2) as pool:
        sizes = [future.result() for future in [pool.submit(read), pool.submit(read)]]
    assert sizes[0] == sizes[1] > 0
    assert len(site.evidence_ids(message_id, 60)) == 1


def test_a_message_read_by_an_operator_names_the_operator(site: Site, who):
    message = sign(compose(who.mehmet.address, who.ayse.address), who.mehmet.issued)
    answer = site.submit(who.mehmet, message, [who.ayse.address])
    site.wait_evidence(answer.message_id, 40)
    with site.imap(who.clerk) as client:
        uid = site.find(client, "X-REM-Message-Identifier", answer.message_id)
        site.fetch(client, uid, "BODY[]")
    (evidence_id,) = site.wait_evidence(answer.message_id, 60)
    record = site.record(who.mehmet, evidence_id)
    assert record.recipient_authentication is not None
    assert record.recipient_authentication.person == "Okuyan Memur"


def test_a_blocked_holder_may_go_on_reading(site: Site, who):
    message = sign(compose(who.ayse.address, who.blocked.address), who.ayse.issued)
    assert site.submit(who.ayse, message, [who.blocked.address]).code == 250
    with site.imap(who.blocked) as client:
        assert client.noop()[0] == "OK"


def test_evidence_and_sent_mail_have_no_gate(site: Site, who):
    message_id = _delivered(site, who)
    for folder in ("Deliller", "Giden"):
        with site.imap(who.ayse, folder) as client:
            _, (found,) = until(partial(_all, client), f"mail in {folder}")
            site.fetch(client, found.split()[-1], "BODY[]")
    assert site.evidence_ids(message_id, 60) == []


def _all(client: imaplib.IMAP4_SSL):
    client.noop()
    kind, data = client.uid("SEARCH", "ALL")
    return (kind, data) if data and data[0] else None


def test_without_a_time_stamp_nothing_is_shown_and_afterwards_it_is(site: Site, who):
    message_id = _delivered(site, who)
    with site.imap(who.mehmet) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id).decode()
        with site.silent_pki():
            kind, data = client.uid("FETCH", uid, "(BODY[])")
            assert kind == "NO"
            assert b"[UNAVAILABLE]" in data[0]
            assert not any(isinstance(part, tuple) for part in data)
            kind, data = client.uid("FETCH", uid, "(BODY.PEEK[HEADER])")
            assert kind == "OK"  # headers are no content
        assert site.evidence_ids(message_id, 60) == []
        found = until(lambda: client.uid("FETCH", uid, "(BODY[])")[0] == "OK", "the content after all")
    assert found
    assert len(site.evidence_ids(message_id, 60)) == 1
