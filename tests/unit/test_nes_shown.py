"""What is shown is what was signed: attacks on the outer header, and what transport may rewrite."""

from base64 import b64decode, encodebytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.addresses import fold
from evidence.asn1.der import read
from evidence.mail.mime import scan
from evidence.mail.smime import DEFAULT_SMIME_LIMITS
from evidence.nes.shown import Protection, compare_headers, fold_address, shown_steps
from evidence.ports import BytesSource
from evidence.report import SubIndication, Verdict
from kephs.usecases.submission.form import _differing_field, _structure
from tests.support.mail_shapes import (
    LETTER,
    SHAPES,
    THUNDERBIRD,
    Opaque,
    Shape,
    protected,
    wrapped_message,
)
from tests.support.mail_shapes_entities import ENTITIES, PLAIN
from tests.support.pki import ayse

OPAQUE = Opaque(
    'Content-Type: application/pkcs7-mime; smime-type=signed-data; name="smime.p7m"\r\n'
    "Content-Transfer-Encoding: base64"
)
INSIDE = (
    b"From: =?utf-8?q?Ay=C5=9Fe?= <ayse@hs91.kep.tr>\r\n"
    b"To: mehmet@hs91.kep.tr, Fatma <fatma@hs91.kep.tr>\r\n"
    b"Cc: can@hs91.kep.tr\r\n"
    b"Subject: =?utf-8?q?=C4=B0htar?= 12\r\n"
    b"Date: Sat, 21 Nov 2026 12:00:00 +0300\r\n"
    b"Message-ID: <shape@test>\r\n"
)


def carry(fields, how):
    """Return a signed part that repeats these fields in one of the known ways."""
    return {
        "message": lambda: wrapped_message(fields),
        "hp": lambda: protected('hp="clear"', fields),
        "legacy": lambda: protected('protected-headers="v1"', fields),
        "undeclared": lambda: fields + PLAIN,
    }[how]()


WAYS = ["message", "hp", "legacy", "undeclared"]
WHOLE = ["message", "hp"]


def message(outside, inside=INSIDE, how="hp", frame=THUNDERBIRD):
    """Return a signed message with this outer header around a signature that covers ``inside``."""
    made = Shape(frame, carry(inside, how)).message(ayse())
    return made.replace(LETTER.fields, outside, 1)


def steps(outside, **more):
    source = BytesSource(message(outside, **more))
    return shown_steps(source, scan(source))


def verdict(outside, **more):
    """Return the code of step 6, and the fields with a finding."""
    first, *rest = steps(outside, **more)
    assert first.number == "6"
    assert [step.number for step in rest] == [f"6.{number}" for number in range(1, len(rest) + 1)]
    assert first.ok == all(step.ok for step in rest)
    return first.code, [step.name for step in rest]


def changed(old, new):
    assert old in INSIDE
    return INSIDE.replace(old, new, 1)


# ------------------------------------------------------------------ attacks


ATTACKS = {
    "another sender": (b"ayse@hs91", b"fatma@hs91", "from"),
    "another sender's name": (b"=?utf-8?q?Ay=C5=9Fe?=", b"Emniyet", "from"),
    "a second sender": (b"From: ", b"From: fatma@hs91.kep.tr, ", "from"),
    "a comment that programs show as a name": (
        b"<ayse@hs91.kep.tr>",
        b"<ayse@hs91.kep.tr> (Emniyet)",
        "from",
    ),
    "a name in capitals": (b"Fatma <", b"FATMA <", "to"),
    "another recipient": (b"To: mehmet@", b"To: can@", "to"),
    "a recipient more": (b"To: ", b"To: can@hs91.kep.tr, ", "to"),
    "a recipient less": (b"To: mehmet@hs91.kep.tr, ", b"To: ", "to"),
    "a name put over a recipient": (b"To: mehmet@hs91.kep.tr", b'To: "Noter" <mehmet@hs91.kep.tr>', "to"),
    "names exchanged between recipients": (
        b"To: mehmet@hs91.kep.tr, Fatma <fatma@hs91.kep.tr>",
        b"To: Fatma <mehmet@hs91.kep.tr>, fatma@hs91.kep.tr",
        "to",
    ),
    "a group put around a recipient": (b"Cc: can@hs91.kep.tr", b"Cc: Mahkeme: can@hs91.kep.tr;", "cc"),
    "a copy taken away": (b"Cc: can@hs91.kep.tr\r\n", b"", "cc"),
    "another subject": (b" 12\r\n", b" 13\r\n", "subject"),
    "a subject with a capital more": (b"htar?=", b"Htar?=", "subject"),
    "a subject without its dotted capital": (b"=C4=B0", b"I", "subject"),
    "a subject with an invisible character": (b"?= 12", b"=E2=80=8B?= 12", "subject"),
    "a subject taken away": (b"Subject: =?utf-8?q?=C4=B0htar?= 12\r\n", b"", "subject"),
    "a subject in a character set that programs guess": (
        b"=?utf-8?q?=C4=B0htar?=",
        b"=?x-tr?q?=DDhtar?=",
        "subject",
    ),
    "a subject in bytes that programs guess": (b"=?utf-8?q?=C4=B0htar?=", b"\xddhtar", "subject"),
    "another date": (b"21 Nov", b"20 Nov", "date"),
    "a date an hour off": (b"12:00:00 +0300", b"12:00:00 +0400", "date"),
    "no readable date": (b"Sat, 21 Nov 2026 12:00:00 +0300", b"yesterday", "date"),
    "a date taken away": (b"Date: Sat, 21 Nov 2026 12:00:00 +0300\r\n", b"", "date"),
    "another Message-ID": (b"<shape@", b"<Shape@", "message-id"),
    "an address field that cannot be read": (b"can@hs91.kep.tr", b"can@hs91.kep.tr <", "cc"),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_changed_outer_field_is_refused_and_named(name, how):
    old, new, field = ATTACKS[name]
    assert verdict(changed(old, new), how=how) == ("header-differs", [field])


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ["From", "Subject", "To", "Cc", "Date", "Message-ID", "Reply-To", "Sender"])
def test_a_field_that_stands_twice_outside_is_refused_whichever_is_shown(name, how):
    twice = f"{name}: fatma@hs91.kep.tr\r\n".encode() * (2 if name in {"Reply-To", "Sender"} else 1)
    for outside in (twice + INSIDE, INSIDE + twice, INSIDE.replace(b"Cc", twice + b"Cc")):
        assert verdict(outside, how=how) == ("header-twice", [name.lower()])


def test_a_field_twice_is_refused_also_where_nothing_is_protected():
    made = SHAPES["thunderbird"].message(ayse())
    source = BytesSource(b"Subject: Baska\r\n" + made)
    first, second = shown_steps(source, scan(source))
    assert (first.code, second.name) == ("header-twice", "subject")
    source = BytesSource(b"Subject : Baska\r\n" + made)
    assert shown_steps(source, scan(source))[0].code == "header-twice"


@pytest.mark.parametrize("how", WAYS)
def test_a_field_twice_inside_the_signature_is_refused(how):
    assert verdict(INSIDE, inside=INSIDE + b"Subject: Baska\r\n", how=how) == ("header-twice", ["subject"])


@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("name", ["Cc", "Subject", "To", "Reply-To", "Sender"])
def test_a_field_that_only_stands_outside_is_refused_where_the_whole_header_is_protected(name, how):
    inside = b"From: ayse@hs91.kep.tr\r\n"
    outside = inside + f"{name}: can@hs91.kep.tr\r\n".encode()
    assert verdict(outside, inside=inside, how=how) == ("header-differs", [name.lower()])


@pytest.mark.parametrize("how", ["legacy", "undeclared"])
def test_the_older_form_speaks_only_of_the_fields_it_repeats(how):
    inside = b"Subject: Ihtar\r\n"
    assert verdict(inside + b"To: can@hs91.kep.tr\r\n", inside=inside, how=how) == ("shown-as-signed", [])
    assert verdict(b"Subject: Baska\r\n", inside=inside, how=how) == ("header-differs", ["subject"])


def test_a_signed_message_whose_encoding_hides_its_header_is_refused():
    hidden = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nRnJvbTogYUBiDQo=\r\n"
    made = Shape(THUNDERBIRD, hidden).message(ayse())
    source = BytesSource(made)
    assert [step.name for step in shown_steps(source, scan(source))[1:]] == ["content-type"]


@pytest.mark.parametrize("how", WAYS)
def test_the_header_inside_an_opaque_signature_counts_too(how):
    assert verdict(INSIDE, how=how, frame=OPAQUE) == ("shown-as-signed", [])
    old, new, field = ATTACKS["another sender"]
    assert verdict(changed(old, new), how=how, frame=OPAQUE) == ("header-differs", [field])


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("Ýhtar".encode(), b"=?x-tr?q?=DDhtar?="),
        ("Ýhtar".encode(), b"\xddhtar"),
        (b"=?utf-8?q?=FFhtar?=", b"=?utf-8?q?=FEhtar?="),
        (b"=?iso-8859-1?q?=99?=", "\x99".encode()),
        (b"=?utf-8?q?a=00b?=", b"=?utf-8?b?YQBi?="),
    ],
    ids=["unknown set", "no set", "undecodable", "set that programs extend", "control character"],
)
def test_what_programs_read_differently_must_be_the_same_octets(inside, outside):
    for name in (b"Subject: ", b"From: <a@b>, "):
        signed, shown = (name + value + b"\r\n" for value in (inside, outside))
        assert verdict(signed, inside=signed, how="legacy")[0] == "shown-as-signed"
        assert verdict(shown, inside=signed, how="legacy")[0] == "header-differs"


def test_a_difference_is_indeterminate_and_told_without_content():
    old, new, _ = ATTACKS["another subject"]
    found = steps(changed(old, new))
    for step in found:
        assert (step.verdict, step.sub_indication) == (
            Verdict.INDETERMINATE, SubIndication.SIG_CONSTRAINTS_FAILURE,
        )  # fmt: skip
        assert "13" not in step.detail
        assert "htar" not in step.detail
    assert "subject" in found[0].detail


# ------------------------------------------------------------------ what transport rewrites


REWRITTEN = {
    "subject in base64": (b"=?utf-8?q?=C4=B0htar?= 12", b"=?UTF-8?B?xLBodGFyIDEy?=", "subject"),
    "subject in latin-5": (b"=?utf-8?q?=C4=B0htar?=", b"=?iso-8859-9?Q?=DDhtar?=", "subject"),
    "subject in raw UTF-8": (b"=?utf-8?q?=C4=B0htar?=", "İhtar".encode(), "subject"),
    "subject in two words": (
        b"=?utf-8?q?=C4=B0htar?=",
        b"=?utf-8?q?=C4=B0h?=\r\n =?utf-8?q?tar?=",
        "subject",
    ),
    "name quoted": (b"Fatma <", b'"Fatma" <', "to"),
    "name in raw UTF-8": (b"=?utf-8?q?Ay=C5=9Fe?=", '"Ayşe"'.encode(), "from"),
    "name dropped": (b"Fatma <fatma@hs91.kep.tr>", b"fatma@hs91.kep.tr", "to"),
    "address as its own name": (
        b"To: mehmet@hs91.kep.tr",
        b'To: "mehmet@hs91.kep.tr" <mehmet@hs91.kep.tr>',
        "to",
    ),
    "addresses in another order": (
        b"mehmet@hs91.kep.tr, Fatma <fatma@hs91.kep.tr>",
        b"Fatma <fatma@hs91.kep.tr>,\r\n mehmet@hs91.kep.tr",
        "to",
    ),
    "domain in capitals": (b"can@hs91.kep.tr", b"can@HS91.KEP.TR", "cc"),
    "address in capitals": (b"mehmet@", b"MEHMET@", "to"),
    "date in universal time": (b"12:00:00 +0300", b"09:00:00 +0000", "date"),
    "date of unknown zone": (b"12:00:00 +0300", b"09:00:00 -0000", "date"),
    "date with a comment": (b"+0300", b"+0300 (+03)", "date"),
    "comment behind the Message-ID": (b"<shape@test>", b"<shape@test> (eklendi)", "message-id"),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", REWRITTEN)
def test_what_transport_rewrites_is_noted_not_refused(name, how):
    old, new, field = REWRITTEN[name]
    assert verdict(changed(old, new), how=how) == ("shown-as-signed", [field])


@pytest.mark.parametrize("how", WAYS)
def test_folding_other_fields_and_trace_change_nothing(how):
    outside = (
        b"Return-Path: <x@y>\r\nReceived: from a by b; Sat, 21 Nov 2026 12:00:00 +0300\r\n"
        + INSIDE.replace(b", Fatma", b",\r\n\tFatma").replace(b"From: ", b"FROM:   ")
        + b"X-Mailer: x\r\n"
    )
    assert verdict(outside, how=how) == ("shown-as-signed", [])


def test_kep_addresses_are_compared_folded():
    inside = INSIDE.replace(b"can@", "ışık.inci@".encode())
    outside = INSIDE.replace(b"can@", "IŞIK.İNCİ@".encode())
    assert verdict(outside, inside=inside) == ("shown-as-signed", ["cc"])
    assert verdict(INSIDE.replace(b"can@", b"isik.inci@"), inside=inside) == ("shown-as-signed", ["cc"])


@given(st.text(alphabet="abcçÇğĞıIİiöÖşŞüÜâÂîÎûÛxXZ09@.\u0307\u212aéß", max_size=30) | st.text(max_size=30))
def test_addresses_are_folded_here_as_in_the_directory(text):
    assert fold_address(text) == fold(text)


@pytest.mark.parametrize("how", WHOLE)
def test_date_and_message_id_that_a_server_added_are_noted(how):
    inside = INSIDE.partition(b"Date:")[0]
    assert verdict(INSIDE, inside=inside, how=how) == ("shown-as-signed", ["date", "message-id"])


@pytest.mark.parametrize(
    ("inside", "outside", "same"),
    [
        (b"can@hs91.kep.tr (Can (Bey))", b"can@hs91.kep.tr", True),
        (b"can@hs91.kep.tr (Can (Bey))", b"(Can (Bey)) can@hs91.kep.tr", True),
        (b"can@hs91.kep.tr (Can (Bey))", b"can@hs91.kep.tr (Bey)", False),
        (b"can@hs91.kep.tr (Can \\) Bey)", b"can@hs91.kep.tr  (Can \\) Bey)", True),
        (b"can@hs91.kep.tr", b"can@hs91.kep.tr (Can \\) Bey)", False),
        (b'"Can (Bey)" <can@hs91.kep.tr>', b'"Can (Bey)"  <can@HS91.kep.tr>', True),
        (b'"Can \\" (Bey)" <can@hs91.kep.tr>', b'"Can \\" (Bey)" <can@HS91.kep.tr>', True),
        (b"can@hs91.kep.tr", b"can@hs91.kep.tr (Can", False),
        (b"Kurul: can@hs91.kep.tr;", b"Kurul:can@hs91.kep.tr;", True),
        (b"Kurul: can@hs91.kep.tr;", b"can@hs91.kep.tr", True),
    ],
)
def test_comments_and_groups_may_go_but_not_come(inside, outside, same):
    found = verdict(b"From: a@b\r\nCc: " + outside + b"\r\n", inside=b"From: a@b\r\nCc: " + inside + b"\r\n")
    assert found[0] == ("shown-as-signed" if same else "header-differs")


@pytest.mark.parametrize(
    "date", [b"x" * 300, b"Sat, 99 Nov 2026 12:00:00 +0300", b"Sat, 21 Nov 0001 00:00:00 +2359"]
)
def test_a_date_beyond_reading_must_be_the_same_octets(date):
    inside = b"From: a@b\r\nDate: " + date + b"\r\n"
    assert verdict(inside, inside=inside) == ("shown-as-signed", [])
    assert verdict(inside.replace(date, date + b" "), inside=inside) == ("shown-as-signed", [])
    assert verdict(inside.replace(date, date + b"(x)"), inside=inside) == ("header-differs", ["date"])


def test_an_empty_field_is_no_field():
    assert verdict(INSIDE + b"Reply-To: \r\n") == ("shown-as-signed", [])
    assert verdict(INSIDE, inside=INSIDE + b"Reply-To: \r\n") == ("shown-as-signed", [])


# ------------------------------------------------------------------ which header is the signed one


def compared(entity):
    made = BytesSource(Shape(THUNDERBIRD, entity).message(ayse()))
    root = scan(made)
    return compare_headers(root, root.children[0])


@pytest.mark.parametrize(
    ("entity", "protection"),
    [
        (PLAIN, Protection.NONE),
        (ENTITIES["forwarded"], Protection.NONE),
        (wrapped_message(), Protection.MESSAGE),
        (wrapped_message(kind="message/global"), Protection.MESSAGE),
        (wrapped_message(kind="message/rfc822; forwarded=no"), Protection.MESSAGE),
        (wrapped_message(b"From: x@y\r\n", kind="message/rfc822; forwarded=yes"), Protection.NONE),
        (protected('hp="clear"'), Protection.DECLARED),
        (protected("hp=clear"), Protection.DECLARED),
        (protected('protected-headers="v1"'), Protection.LEGACY),
        (LETTER.fields + PLAIN, Protection.UNDECLARED),
    ],
    ids=[
        "none", "forwarded inside", "message", "global", "not forwarded", "forwarded", "hp", "hp token", "legacy",
        "undeclared",
    ],
)  # fmt: skip
def test_the_signed_header_is_found_in_every_form(entity, protection):
    shown = compared(entity)
    assert (shown.protection, shown.differing_field) == (protection, "")


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_shows_what_was_signed(name):
    source = BytesSource(SHAPES[name].message(ayse()))
    (step,) = shown_steps(source, scan(source))
    protected_too = name in {"thunderbird-hp", "thunderbird-protected-v1", "wrapped-message"}
    expected = (True, "shown-as-signed", "6") if protected_too else (None, "header-unprotected", "6")
    assert (step.ok, step.code, step.number) == expected


@pytest.mark.parametrize(
    "made",
    [
        b"From: a@b\r\n\r\nx",
        SHAPES["outlook"].message(ayse()).replace(b"multipart/signed", b"multipart/mixed"),
        SHAPES["outlook-opaque"].message(ayse())[:900] + b"*",
        LETTER.fields
        + b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\nMAA=\r\n",
    ],
    ids=["unsigned", "not outermost", "broken base64", "no signed data"],
)
def test_without_signed_content_the_step_is_not_made(made):
    source = BytesSource(made)
    (step,) = shown_steps(source, scan(source))
    assert (step.number, step.ok) == ("6", None)


_VALUES = st.text(alphabet='abİışŞ \t=?()<>@,;:"\\.\u200b\x00', max_size=30).map(str.encode) | st.binary(
    max_size=20
)


@given(outside=_VALUES, inside=_VALUES, name=st.sampled_from(["From", "To", "Subject", "Date", "Message-ID"]))
def test_any_two_values_are_compared_without_error_and_equal_ones_are_equal(outside, inside, name):
    def clean(value):
        return value.replace(b"\r", b"").replace(b"\n", b"")

    def parts(value):
        return scan(BytesSource(name.encode() + b": " + clean(value) + b"\r\n\r\nx"))

    assert compare_headers(parts(outside), parts(outside)).findings == ()
    found = compare_headers(parts(outside), parts(inside)).differing_field
    assert found in {"", name.lower()}


def test_a_header_full_of_brackets_and_words_costs_little():
    for filler in (
        b"(" * 200_000,
        b"=?utf-8?q?" * 20_000,
        b"\\" * 200_000,
        b'"' * 200_000,
        b"a@b," * 40_000,
        b" \t" * 90_000,
    ):
        source = BytesSource(b"To: " + filler + b"\r\nSubject: " + b"x\r\n\r\nx")
        other = BytesSource(b"To: " + filler + b"x\r\nSubject: " + b"x\r\n\r\nx")
        compare_headers(scan(source), scan(other))


# ------------------------------------------------------------------ frames of indefinite length


def with_indefinite_frame(message):
    """Return an opaque message with its signature's outermost length indefinite, as mail programs write it."""
    header, body = message.split(b"\r\n\r\n", 1)
    der = b64decode(body)
    made = b"\x30\x80" + der[read(der, 0, len(der)).body :] + b"\0\0"
    return header + b"\r\n\r\n" + encodebytes(made).replace(b"\n", b"\r\n")


def test_a_frame_of_indefinite_length_hides_no_header_from_the_comparison():
    outside = changed(b"12\r\n", b"13\r\n")
    whole = with_indefinite_frame(message(outside, frame=OPAQUE))
    source = BytesSource(whole)
    root = scan(source)
    first = shown_steps(source, root)[0]
    assert (first.ok, first.code) == (False, "header-differs")


def test_a_submission_with_a_frame_of_indefinite_length_is_compared_too():
    outside = changed(b"12\r\n", b"13\r\n")
    whole = with_indefinite_frame(message(outside, frame=OPAQUE))
    root, signed, _ = _structure(BytesSource(whole), DEFAULT_SMIME_LIMITS)
    assert _differing_field(root, signed) == "subject"
