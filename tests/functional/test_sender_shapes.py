"""A running provider accepts messages as mail programs write them, and refuses their broken twins."""

import subprocess

import pytest

from evidence.mail.variants import Variant
from kephs.domain.refusals import RefusalCode
from tests.functional.refusal import check_refusal
from tests.functional.site import Answer, Holder, Site, fresh_message_id, now, original_in
from tests.support.mail_shapes import SHAPES, Letter, Shape, shapes


def letter(who, to: Holder | None = None) -> Letter:
    return Letter(
        sender=who.ayse.address,
        to=(to or who.mehmet).address,
        date=f"{now():%a, %d %b %Y %H:%M:%S +0000}",
        message_id=fresh_message_id(),
    )


def made(who, name: str) -> tuple[Shape, Letter]:
    written = letter(who)
    return shapes(written)[name], written


def delivered(site: Site, holder: Holder, message_id: str) -> bytes:
    site.wait_evidence(message_id, 40)
    with site.imap(holder) as client:
        uid = site.find(client, "X-REM-Message-Identifier", message_id)
        return original_in(site.fetch(client, uid, "BODY[]"))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_that_shows_what_was_signed_is_accepted_and_delivered(site: Site, who, name: str):
    shape, written = made(who, name)
    message = shape.message(who.ayse.issued, written, at=now())
    answer = site.submit(who.ayse, message, [who.mehmet.address])
    if "undotted" in shape.variant:  # what is delivered would show dots that nobody signed
        check_refusal(site, who.ayse, answer, RefusalCode.SIGNATURE_BROKEN)
        return
    assert answer.code == 250, answer
    original = delivered(site, who.mehmet, answer.message_id)
    if shape.variant is Variant.EXACT:
        assert original == message


@pytest.mark.parametrize("name", SHAPES)
def test_the_broken_twin_of_every_shape_is_refused_with_evidence(site: Site, who, name: str):
    shape, written = made(who, name)
    twin = shape.twin(who.ayse.issued, written, at=now())
    answer = site.submit(who.ayse, twin, [who.mehmet.address])
    check_refusal(site, who.ayse, answer, RefusalCode.SIGNATURE_BROKEN)


def swaks(site: Site, sender: Holder, to: Holder, message: bytes, folder) -> Answer:
    """Submit the very octets, as swaks sends them without touching them."""
    data = folder / "dotted"
    data.write_bytes(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    done = subprocess.run(
        [
            "swaks", "--server", f"localhost:{site.settings.network.submission_port}", "--tls-on-connect",
            "--tls-verify", "--tls-ca-path", str(site.home / "tls-ca.pem"), "--auth", "PLAIN",
            "--auth-user", sender.address, "--auth-password", sender.password, "--from", sender.address,
            "--to", to.address, "--data", f"@{data}", "--no-data-fixup",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if "evidence=" in line][-1:]
    text = line.split(" ", 1)[1].strip()
    code, _, rest = text.replace("-", " ", 1).partition(" ")
    return Answer(int(code), rest)


@pytest.mark.tools
@pytest.mark.parametrize(
    "name", ["thunderbird", "outlook", "outlook-opaque", "apple", "mutt", "java-mail", "eyservis-3"]
)
def test_swaks_submits_a_shape_untouched_and_its_twin_is_refused(site: Site, who, tmp_path, name: str):
    shape, written = made(who, name)
    answer = swaks(site, who.ayse, who.mehmet, shape.message(who.ayse.issued, written, at=now()), tmp_path)
    assert answer.code == 250
    shape, written = made(who, name)
    answer = swaks(site, who.ayse, who.mehmet, shape.twin(who.ayse.issued, written, at=now()), tmp_path)
    assert answer.code == 550


def _swapped(message: bytes) -> bytes:
    mark = b"--" + shapes(Letter())["thunderbird"].frame.boundary.encode()  # type: ignore[union-attr]
    before, first, second, after = message.split(mark)
    return mark.join((before, second, first, after))


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("thunderbird", _swapped, RefusalCode.SIGNATURE_INCOMPLETE),
        ("thunderbird", lambda m: m + b"Odemeyi baska hesaba yapin.\r\n", RefusalCode.SIGNATURE_INCOMPLETE),
        ("thunderbird", lambda m: m.replace(b"Subject: Ihtar", b"Subject: Baska", 1), None),
        ("thunderbird-hp", lambda m: m.replace(b"Subject: Ihtar", b"Subject: Baska", 1), RefusalCode.HEADERS_DIFFER),
        ("thunderbird-protected-v1", lambda m: m.replace(b"Ihtar", b"ihtar", 1), RefusalCode.HEADERS_DIFFER),
        ("wrapped-message", lambda m: m.replace(b"Ihtar", b"=?utf-8?q?Ihtar?=", 1), None),
        ("wrapped-message", lambda m: m.replace(b"Subject: Ihtar\r\n", b"", 1), RefusalCode.HEADERS_DIFFER),
    ],
    ids=[
        "signature first", "unsigned epilogue", "subject nobody protects", "another subject outside",
        "another case outside", "encoded word outside", "no subject outside",
    ],
)  # fmt: skip
def test_what_is_shown_is_what_was_signed(site: Site, who, name: str, change, code: RefusalCode | None):
    shape, written = made(who, name)
    message = shape.message(who.ayse.issued, written, at=now())
    assert change(message) != message
    answer = site.submit(who.ayse, change(message), [who.mehmet.address])
    if code is None:
        assert answer.code == 250, answer
    else:
        check_refusal(site, who.ayse, answer, code)
