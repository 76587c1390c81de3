"""Header values are read as people and RFCs write them, and hostile ones take linear time."""

import time

import pytest

from evidence.mail.headers import (
    AddressSyntaxError,
    Group,
    Mailbox,
    address_list,
    addresses,
    decode_text,
    parameter,
    strip_comments,
    structured,
    unfold,
)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" plain", "plain"),
        (b" fold\r\n ed\r\n\tthere", "fold ed\tthere"),
        (" Türkçe ğüşıöç".encode(), "Türkçe ğüşıöç"),
        (b"\xfe\xfd", "þý"),
        (b"=?utf-8?B?xJ/DvMWf?=", "ğüş"),
        (b"=?UTF-8?q?a_=C5=9F?= b", "a ş b"),
        (b"=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        (b"=?utf-8?q?=C5?= =?utf-8?q?=9F?=", "ş"),  # one character cut in two words
        (b"=?utf-8?q?a?= =?iso-8859-9?q?=FD?=", "aı"),
        (b"=?windows-1254?q?=DE?=", "Ş"),
        (b"=?utf-8*tr?q?x?=", "x"),
        (b"=?punycode?q?abc-?=", "abc-"),  # not a character set of mail
        (b"=?no-such?q?=FD?=", "ý"),
        (b"=?utf-8?q?a=0D=0AX: y?=", "a\ufffd\ufffdX: y"),  # no way to smuggle a header
        (b"=?utf-8?b?QQ?=", "A"),
        (b"=?utf-8?b?Q?=", "Q"),
        (b"=?utf-8?q?=FF?=", "\ufffd"),
        (b"=?broken", "=?broken"),
        (b"", ""),
    ],
)
def test_text_is_decoded_as_rfc_2047_and_raw_utf_8(raw, text):
    assert decode_text(raw) == text


def test_unfolding_removes_only_line_ends_and_outer_blanks():
    assert unfold(b" a\r\n  b\t ") == b"a  b"


@pytest.mark.parametrize(
    ("raw", "value", "params", "clean"),
    [
        (b" Text/PLAIN", "text/plain", (), True),
        (b"a/b; C=D", "a/b", (("c", "D"),), True),
        (b'a/b;c="d;e\\"f" ; g=h', "a/b", (("c", 'd;e"f'), ("g", "h")), True),
        (b"a/b (com;(ment)); c=d (x)", "a/b", (("c", "d"),), True),
        (b'a/b; c="(not a comment)"', "a/b", (("c", "(not a comment)"),), True),
        (b"a/b; name=two words.pdf; x=y", "a/b", (("name", "two words.pdf"), ("x", "y")), True),
        (b"a/b;; c=d;", "a/b", (("c", "d"),), True),
        (b"a/b; junk; c=d", "a/b", (("c", "d"),), False),
        (b'a/b; c="d"junk; e=f', "a/b", (("c", "d"), ("e", "f")), False),
        (b'a/b; c="never ends', "a/b", (("c", "never ends"),), True),
        (b"a/b; c=", "a/b", (("c", ""),), True),
        (b"a/b (open; c=d", "a/b", (), False),
        ("a/b; name=ş".encode(), "a/b", (("name", "ş"),), True),
    ],
)
def test_structured_values_split_into_parameters(raw, value, params, clean):
    assert structured(raw) == (value, params, clean)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"a; filename=x", "x"),
        (b"a; filename*=utf-8''%C5%9F", "ş"),
        (b"a; filename=plain; filename*=utf-8'tr'%C5%9F", "ş"),
        (b"a; filename*0=a; filename*1=b; filename*3=d", "ab"),
        (b"a; filename*1*=%C5%9F; filename*0*=utf-8''a", "aş"),
        (b"a; filename*0*=iso-8859-9''%FD; filename*1=-x", "ı-x"),
        (b'a; filename="=?utf-8?q?=C5=9F?="', "ş"),
        (b"a; filename*=%41", "A"),
        (b"a; other=x", None),
    ],
)
def test_parameters_are_decoded_as_rfc_2231(raw, value):
    assert parameter(structured(raw)[1], "filename") == value


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b" a@b.tr", [("", "a@b.tr")]),
        (b"<a@b.tr>", [("", "a@b.tr")]),
        (b"Ali Veli <a@b.tr>, c@d.tr", [("Ali Veli", "a@b.tr"), ("", "c@d.tr")]),
        (b'"Veli, Ali" <a@b.tr>', [("Veli, Ali", "a@b.tr")]),
        (b'"x <y@z>" <a@b.tr>', [("x <y@z>", "a@b.tr")]),
        (b"=?utf-8?q?Ay=C5=9Fe?= <a@b.tr>", [("Ayşe", "a@b.tr")]),
        ("Ayşe <a@b.tr>".encode(), [("Ayşe", "a@b.tr")]),
        (b"a@b.tr (comment, with (nested@x)), c@d.tr", [("", "a@b.tr"), ("", "c@d.tr")]),
        (b'(") c@d.tr', [("", "c@d.tr")]),
        (b"a (x) . b @ c . tr", [("", "a.b@c.tr")]),
        (b'"a b"@c.tr', [("", '"a b"@c.tr')]),
        (b'"a.b"@c.tr', [("", "a.b@c.tr")]),
        (b"<@r1.tr,@r2.tr:a@b.tr>", [("", "a@b.tr")]),
        (b"a@[127.0.0.1]", [("", "a@[127.0.0.1]")]),
        (b", a@b.tr,, c@d.tr,", [("", "a@b.tr"), ("", "c@d.tr")]),
        (b"undisclosed-recipients:;", []),
        (b"G: a@b.tr, C <c@d.tr>;, e@f.tr", [("", "a@b.tr"), ("C", "c@d.tr"), ("", "e@f.tr")]),
        (b"Ali\r\n Veli\r\n <a@b.tr>", [("Ali Veli", "a@b.tr")]),
        (b"", []),
    ],
)
def test_address_lists_are_read_as_rfc_5322(raw, expected):
    assert [(box.name, box.address) for box in addresses(raw)] == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"a", b"a@", b"@b", b"a b@c.tr", b"a@b c", b"a@b@c", b"a@b <c@d.tr>", b"<a@b.tr> trailing",
        b"<a@b.tr> <c@d.tr>", b"<a@b.tr", b"a@b.tr>", b"(open a@b.tr", b"a@b.tr)", b'"open <a@b.tr>',
        b"G: a@b.tr", b": a@b.tr;", b"a..b@c.tr", b".a@b.tr", b"a@b..tr", b"<>", b"<:a@b.tr>", b"a@b.tr;",
        b"a@b.tr\x00", b"a\x00b@c.tr", b"\xff@b.tr", b'"a\x01"@b.tr', b"x\xff <a@b.tr>", b'"a"b@c.tr',
        b"a@b.tr c@d.tr", b"x: y: a@b.tr;;",
        b'(") a@x <b@y>) c@d.tr', b"[a@b.tr]", b"a@[b c]",
    ],
)  # fmt: skip
def test_what_is_no_address_list_is_refused(raw):
    with pytest.raises(AddressSyntaxError):
        addresses(raw)
    addresses(raw, strict=False)  # for showing, anything goes


def test_for_showing_an_unreadable_entry_has_no_address():
    assert addresses(b"rubbish here, a@b.tr", strict=False) == (
        Mailbox("rubbish here", ""), Mailbox("", "a@b.tr"),
    )  # fmt: skip


def test_groups_keep_their_names():
    assert address_list(b"Grup: a@b.tr;") == (Group("Grup", (Mailbox("", "a@b.tr"),)),)


def test_a_mailbox_knows_its_halves():
    box = Mailbox("", "a@b.kep.tr")
    assert (box.local, box.domain) == ("a", "b.kep.tr")


def test_comments_nest_and_hide_quotes():
    assert strip_comments(b'a(b"(c)")d') == (b"a d", True)
    assert strip_comments(b'"(a)"(b') == (b'"(a)"', False)
    assert strip_comments(b"a\\(b(c\\))") == (b"a\\(b ", True)


@pytest.mark.parametrize(
    "piece", [b"(", b'"', b"<", b"=?", b"=?utf-8?q?a?= ", b",", b"\\", b"a ", b";a", b"x*0=1;", b"[", b'"\\']
)
def test_hostile_values_take_linear_time(piece):
    raw = b"a/b;" + piece * (256 * 1024 // len(piece))
    started = time.perf_counter()
    decode_text(raw)
    value = structured(raw)
    parameter(value[1], "x")
    addresses(raw, strict=False)
    assert time.perf_counter() - started < 2
