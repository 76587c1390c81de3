"""KEP messages as MIME: dispatch and receipts, written and taken apart."""

import email
import email.policy
import re
from dataclasses import replace
from hashlib import sha256
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail import introduction, mime_write, package
from evidence.mail.kep_message import KepMessageError, digest_of_range, is_kep_message, parse_kep_message
from evidence.mail.mime import scan
from evidence.mail.package import (
    Attachment,
    Boundaries,
    BoundaryError,
    Envelope,
    plan_dispatch,
    plan_receipt,
    transfer_label,
)
from evidence.model.records import NAMES, EvidenceKind, Party, SealedEvidence
from evidence.ports import BytesSource
from tests.support.evidence_samples import HS91, MESSAGE, record
from tests.support.sealed import ORIGINAL, accepted, delivered, dispatch, receipt

ENVELOPE = Envelope(HS91.address, ("kurum@hs91.kep.tr",), ("mehmet@hs91.kep.tr",))
NAMES_OF_BOUNDARIES = Boundaries.of("0123456789abcdef")


def parsed(message: bytes):
    return email.message_from_bytes(message, policy=email.policy.SMTP)


def plain(kind=EvidenceKind.SUBMISSION_ACCEPTANCE, **changes) -> SealedEvidence:
    return SealedEvidence(record(kind, **changes), b"<xml/>")


# ------------------------------------------------------------------- dispatch


def test_the_dispatch_has_the_tree_of_the_profile():
    root = parsed(dispatch())
    assert [part.get_content_type() for part in root.walk()][:8] == [
        "multipart/signed",
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/xml",
        "message/rfc822",
        "text/plain",
    ]
    mixed = root.get_payload()[0]
    assert [part["X-REM-Section-Type"] for part in mixed.get_payload()] == [
        "rem_message/introduction",
        "rem_message/xml_evidence",
        "rem_message/original",
    ]


def test_the_dispatch_carries_the_headers_of_the_profile():
    root = parsed(dispatch())
    assert root["From"] == '"On behalf of: ayse@hs91.kep.tr" <kep-hizmet@hs91.kep.tr>'
    assert root["Reply-To"].addresses[0].addr_spec == "ayse@hs91.kep.tr"
    assert root["Reply-To"].addresses[0].display_name == "Ayşe Yılmaz"
    assert root["To"].addresses[0].addr_spec == "kurum@hs91.kep.tr"
    assert root["Cc"].addresses[0].addr_spec == "mehmet@hs91.kep.tr"
    assert root["Subject"] == "REM Dispatch: Deneme iletisi <1> & ötesi"
    assert root["Message-ID"] == "<kep-000001.20261121@hs91.kep.tr>"
    assert root["X-REM-Msg-Type"] == "Dispatch"
    assert root["X-REM-Evidence-Type"] == "SubmissionAcceptanceRejection"
    assert root["X-REM-Event"] == "http:uri.etsi.org/02640/Event#Acceptance"
    assert root["MIME-Version"] == "1.0"
    assert root.get_param("micalg") == "sha-256"
    assert "Bcc" not in root


@pytest.mark.parametrize(
    "original",
    [
        ORIGINAL,
        b"a: b\r\n\r\nno final line end",
        b"a: b\r\n\r\n",
        b"a: b\r\n\r\ntwo line ends\r\n\r\n",
        "Konu: ş\r\n\r\nTürkçe\r\n".encode(),
        b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nnever closed\r\n',
    ],
)
def test_the_original_comes_out_byte_for_byte(original):
    source = BytesSource(dispatch(original=original))
    message = parse_kep_message(source)
    assert source.read(message.original.start, message.original.length) == original
    assert digest_of_range(source, message.original) == sha256(original).digest()


def test_evidence_and_extensions_come_out_byte_for_byte():
    extra = Attachment("10-SubmissionAcceptance.ers", bytes(range(256)))
    plan = plan_dispatch(
        ENVELOPE, accepted(), label="7bit", boundaries=NAMES_OF_BOUNDARIES, extensions=(extra,)
    )
    whole = plan.prefix + plan.entity_head + ORIGINAL + plan.entity_tail + plan.suffix(b"p7s")
    message = parse_kep_message(BytesSource(whole))
    assert [file.content for file in message.evidences] == [accepted().xml]
    assert message.evidences[0].name == "SubmissionAcceptance.xml"
    assert [(file.name, file.content) for file in message.extensions] == [(extra.file_name, extra.content)]
    assert message.p7s == b"p7s"
    assert message.has_introduction
    assert not message.unsigned_text
    assert plan.size(len(ORIGINAL), 3) == len(whole)


def test_the_signed_entity_is_head_original_and_tail():
    plan = plan_dispatch(ENVELOPE, accepted(), label="7bit", boundaries=NAMES_OF_BOUNDARIES)
    entity = plan.entity_head + ORIGINAL + plan.entity_tail
    source = BytesSource(plan.prefix + entity + plan.suffix(b"p7s"))
    message = parse_kep_message(source)
    assert source.read(message.signed_entity.start, message.signed_entity.length) == entity


def test_the_transfer_label_names_the_content_and_nothing_is_converted():
    assert transfer_label(has_8bit=False, is_binary=False) == "7bit"
    assert transfer_label(has_8bit=True, is_binary=False) == "8bit"
    assert transfer_label(has_8bit=True, is_binary=True) == "binary"
    message = dispatch(original="a: ş\r\n\r\nş\r\n".encode())
    assert message.count(b"Content-Transfer-Encoding: 8bit\r\n") == 3  # outer, mixed, original


def test_every_line_is_short_and_ends_in_crlf():
    names = tuple(Party(f"alici{n}@hs91.kep.tr", f"Çok Uzun Adlı Kurum {n}") for n in range(500))
    long = plain(recipients=names, message=replace(MESSAGE, subject="ğ" * 3000 + "x" * 3000))
    envelope = Envelope(HS91.address, tuple(party.address for party in names))
    plan = plan_dispatch(envelope, long, label="7bit", boundaries=NAMES_OF_BOUNDARIES)
    whole = plan.prefix + plan.entity_head + plan.entity_tail + plan.suffix(bytes(5000))
    assert b"\n" not in whole.replace(b"\r\n", b"")
    assert b"\r" not in whole.replace(b"\r\n", b"")
    assert max(map(len, whole.split(b"\r\n"))) <= 998
    assert max(map(len, plan.prefix.split(b"\r\n"))) <= 78
    root = parsed(whole)
    assert len(root["To"].addresses) == 500
    assert root["To"].addresses[499].display_name == "Çok Uzun Adlı Kurum 499"


# ------------------------------------------------------------------- receipts


@pytest.mark.parametrize("kind", list(EvidenceKind))
def test_a_receipt_has_one_evidence_and_no_original(kind):
    evidence = plain(kind)
    plan = plan_receipt(
        Envelope(HS91.address, ("ayse@hs91.kep.tr",)), evidence, boundaries=NAMES_OF_BOUNDARIES
    )
    whole = plan.finish(b"p7s")
    message = parse_kep_message(BytesSource(whole))
    assert message.original is None
    assert [file.name for file in message.evidences] == [f"{NAMES[kind].event}.xml"]
    root = parsed(whole)
    assert root["Subject"] == f"REM {NAMES[kind].event}: Deneme iletisi <1> & ötesi"
    assert root["From"].addresses[0].addr_spec == HS91.address
    assert root["Reply-To"] is None
    assert root["Auto-Submitted"] == "auto-generated"
    assert root["Message-ID"] == f"<{evidence.record.evidence_id}>"


@pytest.mark.parametrize("kind", list(EvidenceKind))
def test_the_introduction_says_the_fixed_word_and_never_gonderildi(kind):
    text = introduction.for_receipt(record(kind))
    for shown in map(str, text):
        assert NAMES[kind].turkish in shown.replace("&#x27;", "'")
        assert NAMES[kind].english in shown.replace("&#x27;", "'")
        assert "Gönderildi" not in shown
        assert "Kanıt" not in shown
        assert "delil" in shown
    plain = str(text.plain)
    assert plain.index("Delil / Evidence") < plain.index(introduction.MEANINGS[kind].proves_en)


def test_every_kind_has_a_meaning():
    assert set(introduction.MEANINGS) == set(EvidenceKind)


def test_the_introduction_escapes_what_came_from_outside():
    nasty = record(
        EvidenceKind.SUBMISSION_ACCEPTANCE,
        message=replace(MESSAGE, subject='<script>alert("x")</script>\r\nX: y'),
        sender=Party("ayse@hs91.kep.tr", "<img src=x onerror=y>"),
    )
    plain, html = map(str, introduction.for_dispatch(nasty))
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r"(?i)href|src=[\"']|<style|https?:", html)
    assert "\nX: y" not in plain


@given(facts=st.text(max_size=300), before=st.sampled_from(["a\n", "şöyle \n" * 30]))
def test_a_text_encoded_in_pieces_is_the_text_encoded_at_once(facts, before):
    text = introduction.Text(before, f"x: {facts}\n", "sonra\n")
    assert b"".join(map(mime_write.quoted_printable, text)) == mime_write.quoted_printable(str(text))


# ------------------------------------------------------------------- boundaries and headers


@given(st.from_regex(r"[A-Za-z0-9]{1,67}", fullmatch=True))
def test_boundaries_are_no_prefixes_of_each_other_and_fit_a_header(seed):
    names = Boundaries.of(seed)
    for one, other in permutations((names.signed, names.mixed, names.alternative), 2):
        assert not other.startswith(one)
        assert re.fullmatch(r"[A-Za-z0-9=_]{1,70}", one)


@pytest.mark.parametrize("seed", ["", 's"', "s b", "s\r\n", "s=", "ş", "s" * 68])
def test_a_seed_of_boundaries_is_some_letters_and_digits(seed):
    with pytest.raises(BoundaryError):
        Boundaries.of(seed)


@pytest.mark.parametrize("name", ["signed", "mixed", "alternative"])
def test_no_boundary_occurs_in_what_it_divides(name):
    boundaries = Boundaries.of("x7")
    boundaries.check(b"--x7", b"text\r\n")
    with pytest.raises(BoundaryError):
        boundaries.check(b"", b"text\r\n--" + getattr(boundaries, name).encode() + b"\r\n")


def test_a_text_that_knows_the_boundaries_is_refused(monkeypatch):
    monkeypatch.setattr(package, "quoted_printable", str.encode)
    seen = plain(EvidenceKind.DELIVERY, message=replace(MESSAGE, subject="m=_0123456789abcdef"))
    with pytest.raises(BoundaryError):
        plan_receipt(ENVELOPE, seen, boundaries=NAMES_OF_BOUNDARIES)


@pytest.mark.parametrize("bad", ["a b@hs91.kep.tr", "a\r\nBcc: x@y", "a\tb@x"])
def test_values_that_would_break_a_header_are_refused(bad):
    envelope = Envelope(HS91.address, (bad,))
    with pytest.raises(mime_write.HeaderTextError):
        plan_dispatch(envelope, plain(), label="7bit", boundaries=NAMES_OF_BOUNDARIES)
    with pytest.raises(mime_write.HeaderTextError):
        plan_receipt(ENVELOPE, plain(EvidenceKind.DELIVERY, evidence_id=bad), boundaries=NAMES_OF_BOUNDARIES)


@given(st.text(max_size=200))
def test_any_subject_makes_one_header_that_reads_back(subject):
    line = mime_write.text_header("Subject", subject).encode()
    root = parsed(line + b"X-Next: 1\r\n\r\n")
    assert root.keys() == ["Subject", "X-Next"]
    assert all(len(part) <= 78 for part in line.split(b"\r\n"))
    shown = mime_write.one_line(subject).strip()
    if shown.isprintable():
        assert root["Subject"] == shown


@given(st.text(max_size=300))
def test_quoted_printable_reads_back_in_short_lines(text):
    clean = text.encode("utf-8", "replace").decode().replace("\r", "").replace("\0", "")
    body = mime_write.quoted_printable(clean)
    head = b"Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    content = parsed(head + body).get_payload(decode=True).decode()
    assert content.replace("\r\n", "\n").rstrip("\n") == clean.rstrip("\n")
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))


@given(st.binary(max_size=1000))
def test_the_size_of_base64_is_known_without_writing_it(data):
    body = mime_write.base64_body(data)
    assert mime_write.base64_size(len(data)) == (len(body), body.count(b"\n"))


# ------------------------------------------------------------------- taking apart


def test_parts_are_found_by_their_header_not_by_position():
    message = dispatch()
    assert is_kep_message(scan(BytesSource(message)))
    renamed = message.replace(b"X-REM-Section-Type", b"REM-Section-Type")
    assert len(parse_kep_message(BytesSource(renamed)).evidences) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"multipart/signed", b"multipart/mixed"),
        (b'protocol="application/pkcs7-signature"', b'protocol="application/pgp-signature"'),
        (b"application/pkcs7-signature; name", b"application/octet-stream; name"),
        (b"multipart/mixed; boundary", b"multipart/related; boundary"),
        (b"\r\n--m=_0123456789abcdef--\r\n", b"\r\n"),
        (b"\r\n--s=_0123456789abcdef--\r\n", b"\r\n"),
        (b"rem_message/introduction", b"rem_message/original"),
        (b"Content-Type: message/rfc822", b"Content-Type: text/plain"),
    ],
)
def test_a_message_of_another_shape_is_refused(old, new):
    message = dispatch()
    assert old in message
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(message.replace(old, new)))


def test_a_message_without_evidence_and_original_is_no_kep_message():
    message = receipt().replace(b"rem_message/xml_evidence", b"rem_message/other")
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(message))


def test_a_section_named_twice_is_no_section():
    twice = b"X-REM-Section-Type: rem_message/original\r\nX-REM-Section-Type: rem_message/xml_evidence\r\n"
    message = dispatch().replace(b"X-REM-Section-Type: rem_message/original\r\n", twice)
    assert parse_kep_message(BytesSource(message)).original is None


def test_text_beside_the_signed_part_is_reported():
    message = receipt()
    assert parse_kep_message(BytesSource(message + b"epilogue")).unsigned_text
    assert parse_kep_message(
        BytesSource(message.replace(b"\r\n\r\n--s=_", b"\r\n\r\npreamble\r\n--s=_", 1))
    ).unsigned_text


def test_a_part_beyond_its_cap_is_refused():
    big = SealedEvidence(delivered().record, b"x" * ((1 << 20) + 1))
    plan = plan_receipt(ENVELOPE, big, boundaries=NAMES_OF_BOUNDARIES)
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(plan.finish(b"p7s")))


def test_more_parts_than_a_message_can_have_are_refused():
    extra = [Attachment(f"{n}.ers", b"x") for n in range(65)]
    plan = plan_receipt(ENVELOPE, delivered(), boundaries=NAMES_OF_BOUNDARIES, extensions=extra)
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(plan.finish(b"p7s")))
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(b"X: y\r\n" * 3000 + receipt()))


def test_evidence_that_is_no_leaf_or_encoded_oddly_is_refused():
    for old, new in (
        (b"application/xml; charset=UTF-8; name", b"message/rfc822; name"),
        (
            b'Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="Del',
            b'Content-Transfer-Encoding: x-odd\r\nContent-Disposition: attachment; filename="Del',
        ),
        (b"PD94bWwg", b"PD94bWw!"),
    ):
        message = receipt()
        assert old in message
        changed = message.replace(old, new)
        if b"message/rfc822" in new:
            changed = changed.replace(
                b'base64\r\nContent-Disposition: attachment; filename="Del',
                b'7bit\r\nContent-Disposition: attachment; filename="Del',
            )
        with pytest.raises(KepMessageError):
            parse_kep_message(BytesSource(changed))


def test_outer_headers_are_given_decoded_and_only_when_unambiguous():
    message = parse_kep_message(BytesSource(dispatch()))
    assert message.outer("Subject") == "REM Dispatch: Deneme iletisi <1> & ötesi"
    assert message.outer("X-Missing") is None
    assert message.is_dispatch
    assert not is_kep_message(scan(BytesSource(ORIGINAL)))


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail_in_another_way(data):
    with pytest.raises(KepMessageError):
        parse_kep_message(BytesSource(data))
