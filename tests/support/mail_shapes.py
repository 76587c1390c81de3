"""Signed messages in the shapes of the mail programs that holders use: headers, boundaries, parameters.

What is known of each shape is written down here with our own texts; signatures come from our emitter over
keys of the TEST PKI. A `Shape` frames any signed part (`tests.support.mail_shapes_entities`); `twin` spoils
one signed octet and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType

from evidence.cms.signed_data import CmsSigner
from evidence.mail.smime_sign import base64_lines
from evidence.mail.variants import Variant
from kephs.testpki.issued import Issued
from tests.support.mail_shapes_entities import ASCII, ENTITIES, PLAIN, leaf, quoted
from tests.support.pki import NOW
from tests.support.signers import raw_sign


@dataclass(frozen=True)
class Letter:
    """The outer header fields that every message needs."""

    sender: str = "ayse@hs91.kep.tr"
    to: str = "mehmet@hs91.kep.tr"
    subject: str = "Ihtar"
    date: str = "Sat, 21 Nov 2026 12:00:00 +0300"
    message_id: str = "<shape@test>"

    @property
    def fields(self) -> bytes:
        """Return From, To, Subject, Date and Message-ID."""
        return (
            f"From: {self.sender}\r\nTo: {self.to}\r\nSubject: {self.subject}\r\n"
            f"Date: {self.date}\r\nMessage-ID: {self.message_id}\r\n"
        ).encode()


LETTER = Letter()


@dataclass(frozen=True)
class Frame:
    """How a program writes a detached signature around a part.

    ``type`` is the outer content type with a place for the boundary, ``more`` other outer fields,
    ``part`` the header of the signature part, ``lines`` joins its base64.
    """

    type: str
    boundary: str
    part: str
    preamble: bytes = b""
    epilogue: bytes = b""
    more: str = "MIME-Version: 1.0\r\n"
    width: int = 76
    gap: bytes = b"\r\n"  # between the base64 and the closing delimiter

    def around(self, letter: Letter, entity: bytes, cms: bytes) -> bytes:
        """Return the message."""
        mark = b"--" + self.boundary.encode()
        head = letter.fields + (self.more + self.type % self.boundary + "\r\n\r\n").encode()
        return b"".join((
            head, self.preamble, mark, b"\r\n", entity, b"\r\n", mark, b"\r\n", self.part.encode(),
            b"\r\n\r\n", wrapped(cms, self.width), self.gap, mark, b"--\r\n", self.epilogue,
        ))  # fmt: skip


def wrapped(cms: bytes, width: int) -> bytes:
    """Return base64 in lines of this many characters."""
    text = base64_lines(cms).replace(b"\r\n", b"")
    return b"\r\n".join(text[at : at + width] for at in range(0, len(text), width))


@dataclass(frozen=True)
class Opaque:
    """How a program writes a signature that holds its content."""

    head: str

    def around(self, letter: Letter, _entity: bytes, cms: bytes) -> bytes:
        """Return the message."""
        return (
            letter.fields + f"MIME-Version: 1.0\r\n{self.head}\r\n\r\n".encode() + base64_lines(cms) + b"\r\n"
        )


def _same(entity: bytes) -> bytes:
    return entity


@dataclass(frozen=True)
class Shape:
    """One program's way: ``signed`` makes the signed octets of the part that lies in the message."""

    frame: Frame | Opaque
    entity: bytes
    variant: Variant = Variant.EXACT
    wire: Callable[[bytes], bytes] = field(default=_same)  # from what was signed to what is sent

    def message(
        self, issued: Issued, letter: Letter = LETTER, *, at: datetime = NOW, entity: bytes | None = None,
        spoil: Callable[[bytes], bytes] = _same,
    ) -> bytes:  # fmt: skip
        """Return the message signed by a holder; ``spoil`` changes the part after signing."""
        signed = self.entity if entity is None else entity
        signer = CmsSigner(issued.certificate, issued.chain)
        draft = signer.to_be_signed(sha256(signed).digest(), at)
        value = raw_sign(issued, draft.digest)
        if isinstance(self.frame, Opaque):
            return self.frame.around(letter, b"", signer.assemble(draft, value, content=spoil(signed)))
        return self.frame.around(letter, spoil(self.wire(signed)), signer.assemble(draft, value))

    def twin(self, issued: Issued, letter: Letter = LETTER, **more) -> bytes:
        """Return the same with the case of one signed letter changed."""
        return self.message(issued, letter, spoil=one_letter, **more)


def one_letter(entity: bytes) -> bytes:
    """Change the case of the last letter that is no part of a delimiter or a line end."""
    places = [at for at, char in enumerate(entity) if chr(char).isascii() and chr(char).isalpha()]
    inner = [at for at in places if not entity[entity.rfind(b"\r\n", 0, at) + 2 : at + 1].startswith(b"--")]
    spoiled = bytearray(entity)
    spoiled[(inner or places)[-1]] ^= 0x20
    return bytes(spoiled)


_P7S = 'application/pkcs7-signature; name="smime.p7s"'
_ATTACHED = 'Content-Disposition: attachment; filename="smime.p7s"'
_BASE64 = "Content-Transfer-Encoding: base64"
_DESCRIBED = "Content-Description: S/MIME Cryptographic Signature"


def part(kind: str = _P7S, *more: str) -> str:
    """Return the header of a signature part."""
    return "\r\n".join((f"Content-Type: {kind}", *more))


THUNDERBIRD = Frame(
    'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary="%s"',
    "------------ms050105040301070407080103",
    part(_P7S, _BASE64, _ATTACHED, _DESCRIBED),
    preamble=b"This is a cryptographically signed message in MIME format.\r\n\r\n",
    epilogue=b"\r\n",
    more="MIME-Version: 1.0\r\nUser-Agent: Mozilla Thunderbird\r\nContent-Language: tr\r\n",
    gap=b"\r\n\r\n",
)
_OUTLOOK_PART = 'Content-Type: application/pkcs7-signature;\r\n\tname="smime.p7s"\r\n' + _BASE64 + (
    '\r\nContent-Disposition: attachment;\r\n\tfilename="smime.p7s"'
)  # fmt: skip


def _outlook(micalg: str) -> Frame:
    return Frame(
        'Content-Type: multipart/signed;\r\n\tprotocol="application/x-pkcs7-signature";\r\n'
        f'\tmicalg={micalg};\r\n\tboundary="%s"',
        "----=_NextPart_000_0010_01DC5A1B.6F3A4D20",
        _OUTLOOK_PART,
        preamble=b"This is a multipart message in MIME format.\r\n\r\n",
        epilogue=b"\r\n",
        more="MIME-Version: 1.0\r\nX-Mailer: Microsoft Outlook 16.0\r\nThread-Index: AdxaG29K\r\n",
        gap=b"\r\n\r\n",
    )


APPLE = Frame(
    'Content-Type: multipart/signed;\r\n\tboundary="%s";\r\n\tprotocol="application/pkcs7-signature";\r\n\tmicalg=sha-256',
    "Apple-Mail=_6F0A2C1E-3B7D-4E55-9A0C-5D1F2E3A4B5C",
    "Content-Disposition: attachment;\r\n\tfilename=smime.p7s\r\n"
    "Content-Type: application/pkcs7-signature;\r\n\tname=smime.p7s\r\n" + _BASE64,
    preamble=b"\r\n",
    more="Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774.600.62\\))\r\nX-Mailer: Apple Mail (2.3774.600.62)\r\n",
)
GMAIL = Frame(
    'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n\tboundary="%s"',
    "000000000000c0ffee0611aa22bb33",
    part(_P7S, _BASE64, _ATTACHED, _DESCRIBED),
)
MUTT = Frame(
    'Content-Type: multipart/signed; micalg=sha-256;\r\n\tprotocol="application/x-pkcs7-signature"; boundary="%s"',
    "k+w/mQv8wyuph6w0",
    part("application/x-pkcs7-signature", 'Content-Disposition: attachment; filename="smime.p7s"', _BASE64),
    preamble=b"\r\n",
    more="MIME-Version: 1.0\r\nContent-Disposition: inline\r\nUser-Agent: Mutt/2.2.12\r\n",
    width=64,
    gap=b"\r\n\r\n",
)


def _openssl(kind: str) -> Frame:
    return Frame(
        f'Content-Type: multipart/signed; protocol="application/{kind}"; micalg="sha-256"; boundary="%s"',
        "----D6A1F2B3C4D5E6F708192A3B4C5D6E7F",
        part(f'application/{kind}; name="smime.p7s"', _BASE64, _ATTACHED),
        preamble=b"This is an S/MIME signed message\r\n\r\n",
        epilogue=b"\r\n",
        width=64,
        gap=b"\r\n\r\n",
    )


JAVA = Frame(
    'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; \r\n\tboundary="%s"',
    "----=_Part_1_1324843.1795251600000",
    part(
        "application/pkcs7-signature; name=smime.p7s; smime-type=signed-data", _BASE64, _ATTACHED, _DESCRIBED
    ),
)


def _eyservis(signature: str, micalg: str, boundary: str) -> Frame:
    return Frame(
        f'Content-Type: multipart/signed; protocol="application/x-pkcs7-signature"; micalg={micalg}; boundary="%s"',
        boundary,
        part(signature, _BASE64, 'Content-Disposition: attachment; filename="smime.p7s"'),
        more="X-TR-REM-iletiTip: standart\r\nX-TR-REM-iletiID: 42\r\nMIME-Version: 1.0\r\n",
    )


_PRODUCER_1 = _eyservis('application/x-pkcs7-signature; name="smime.p7s"', "sha256", "=_kep_1")
_PRODUCER_2 = _eyservis(
    "application/pkcs7-signature; name=smime.p7s; smime-type=signed-data", "sha256", "=_kep_2"
)
_PRODUCER_3 = _eyservis(
    'application/x-pkcs7-signature; name="smime.p7s"',
    '"System.Security.Cryptography.SHA256Managed"',
    "---=_Part_3_7.9",
)
_QUOTED = leaf("text/plain; charset=utf-8", "quoted-printable", quoted("Sayın yetkili,\r\nİhtar".encode()))
_DOTTED = leaf("text/plain", "7bit", b"liste\r\n.birinci\r\n..ikinci\r\n.\r\nson")


def doubled_dots(entity: bytes) -> bytes:
    """Return the part as producer 1 may send it: every dot that begins a line doubled."""
    return entity.replace(b"\r\n.", b"\r\n..")


def _one_crlf_off(entity: bytes) -> bytes:
    return entity.removesuffix(b"\r\n")


def _more_line_ends(entity: bytes) -> bytes:
    return entity + b"\r\n\r\n"


def protected(parameters: str, fields: bytes = LETTER.fields) -> bytes:
    """Return a signed part that repeats the header as RFC 9788 and its forerunner do."""
    body = b"\r\n--korunan\r\n" + PLAIN + b"\r\n--korunan--\r\n"
    kind = f'Content-Type: multipart/mixed; boundary="korunan"; {parameters}\r\n'.encode()
    return kind + fields + body


def wrapped_message(fields: bytes = LETTER.fields, kind: str = "message/rfc822") -> bytes:
    """Return a signed part that holds the whole message."""
    return f"Content-Type: {kind}\r\n\r\n".encode() + fields + b"MIME-Version: 1.0\r\n" + PLAIN


_ALTERNATIVE = ENTITIES["alternative"]
_P7M = 'Content-Disposition: attachment; filename="smime.p7m"'


def shapes(letter: Letter) -> Mapping[str, Shape]:
    """Return every shape by name with a content that its program writes; some repeat the letter's header."""
    return MappingProxyType({
        "thunderbird": Shape(THUNDERBIRD, ENTITIES["flowed"]),
        "thunderbird-base64": Shape(THUNDERBIRD, ENTITIES["base64"]),
        "thunderbird-attachment": Shape(THUNDERBIRD, ENTITIES["mixed-2231-pieces"]),
        "thunderbird-hp": Shape(THUNDERBIRD, protected('hp="clear"', letter.fields)),
        "thunderbird-protected-v1": Shape(THUNDERBIRD, protected('protected-headers="v1"', letter.fields)),
        "outlook": Shape(_outlook("SHA256"), _ALTERNATIVE),
        "outlook-oid": Shape(_outlook("2.16.840.1.101.3.4.2.1"), ENTITIES["nested"]),
        "outlook-winmail": Shape(_outlook("SHA256"), ENTITIES["winmail"]),
        "outlook-opaque": Shape(
            Opaque(f'Content-Type: application/pkcs7-mime; smime-type=signed-data;\r\n\tname="smime.p7m"\r\n{_P7M}\r\n{_BASE64}'),
            _ALTERNATIVE,
        ),
        "outlook-opaque-x": Shape(
            Opaque(f'Content-Type: application/x-pkcs7-mime;\r\n\tname="smime.p7m";\r\n\tsmime-type=signed-data\r\n{_BASE64}'),
            _ALTERNATIVE,
        ),
        "opaque-untold": Shape(Opaque(f"Content-Type: application/pkcs7-mime; name=smime.p7m\r\n{_BASE64}"), PLAIN),
        "apple": Shape(APPLE, ENTITIES["quoted-printable"]),
        "apple-attachment": Shape(APPLE, ENTITIES["nested"]),
        "gmail": Shape(GMAIL, _ALTERNATIVE),
        "mutt": Shape(MUTT, ENTITIES["8bit-utf8"]),
        "openssl-smime": Shape(_openssl("x-pkcs7-signature"), leaf("text/plain", None, ASCII)),
        "openssl-cms": Shape(_openssl("pkcs7-signature"), ENTITIES["8bit-utf8"]),
        "java-mail": Shape(JAVA, ENTITIES["mixed-encoded-word"]),
        "wrapped-message": Shape(JAVA, wrapped_message(letter.fields)),
        "eyservis-1": Shape(_PRODUCER_1, _QUOTED),
        "eyservis-1-mixed": Shape(_PRODUCER_1, ENTITIES["mixed-2231"].removesuffix(b"\r\n")),
        "eyservis-1-doubled-dots": Shape(_PRODUCER_1, _DOTTED, Variant.UNDOTTED, doubled_dots),
        "eyservis-2": Shape(_PRODUCER_2, _QUOTED),
        "eyservis-2-final-crlf": Shape(_PRODUCER_2, _QUOTED + b"\r\n", Variant.FINAL_CRLF, _one_crlf_off),
        "eyservis-3": Shape(_PRODUCER_3, _QUOTED + b"\r\n", Variant.FINAL_CRLF, _one_crlf_off),
        "eyservis-3-trimmed": Shape(_PRODUCER_3, _QUOTED + b"\r\n", Variant.TRIMMED_CRLF, _more_line_ends),
        "eyservis-3-exact": Shape(_PRODUCER_3, _QUOTED + b"\r\n"),
    })  # fmt: skip


SHAPES = shapes(LETTER)
"""Every shape around the same letter."""
