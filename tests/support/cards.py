"""Cards for tests: SoftHSM tokens that hold what a holder's card holds, and tokens that claim to be locked."""

from functools import cache
from pathlib import Path
from typing import Any

import pkcs11
from asn1crypto import x509 as asn1_x509
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11 import Attribute, CertificateType, ObjectClass, TokenFlag
from pkcs11.util.ec import decode_ec_private_key
from pkcs11.util.rsa import decode_rsa_private_key

from evidence.asn1.der import integer
from evidence.x509.certificates import certificate_facts
from kephs.cli.main import main
from kephs.system import SystemClock
from kephs.testpki.authority import TestPki
from kephs.testpki.hierarchy import Authority
from kephs.testpki.issued import Issued
from kephs.testpki.profiles import make_tckn, whole_second
from tests.support.pki import make_pki
from tests.support.softhsm import MODULE, PIN, SoftHsm, empty_hsm

WRONG = "13579"
PLAIN = (
    "From: ayse@hs91.kep.tr\nTo: mehmet@hs91.kep.tr\nSubject: Ihtar\nDate: Sat, 21 Nov 2026 12:00:00 +0300\n"
    "Message-ID: <1@x>\n\nSayın Bay\n"
)

_FLAGS = bytes.fromhex("000000008000534b0000000000000002")
"""CKA_OS_TOKENFLAGS in SoftHSM's token.object; the value follows, 8 octets, big-endian."""


class Cards:
    """Makes tokens in this process's SoftHSM."""

    def __init__(self) -> None:
        self.hsm: SoftHsm = empty_hsm()

    def add(self, label: str) -> None:
        """Make a token once; the module sees it when it begins anew."""
        if not self.hsm.has(label):
            self.hsm.add_token(label)
        self.restart()

    def restart(self) -> None:
        pkcs11.lib(str(MODULE)).finalize()

    def token(self, label: str) -> Any:
        return pkcs11.lib(str(MODULE)).get_token(token_label=label)

    def put(
        self, label: str, issued: Issued, number: bytes, *, certificate: bool = True, key: bool = True,
        always: bool = False, issuers: bool = False, name: str = "imza",
    ) -> None:  # fmt: skip
        """Put a certificate, its key, its issuers onto a token."""
        with self.token(label).open(rw=True, user_pin=PIN) as session:
            if certificate:
                self._certificate(session, issued.certificate, number, name)
            for index, der in enumerate(issued.chain if issuers else ()):
                self._certificate(session, der, b"\xcc" + bytes([index]), "issuer")
            if key:
                session.create_object(
                    {
                        **_decoded(issued), Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.SIGN: True,
                        Attribute.SENSITIVE: True, Attribute.ID: number, Attribute.LABEL: name,
                        Attribute.ALWAYS_AUTHENTICATE: always,
                    }
                )  # fmt: skip

    @staticmethod
    def _certificate(session: Any, der: bytes, number: bytes, name: str) -> None:
        facts = certificate_facts(der)
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                Attribute.TOKEN: True, Attribute.PRIVATE: False, Attribute.VALUE: der, Attribute.ID: number,
                Attribute.LABEL: name, Attribute.SUBJECT: facts.subject, Attribute.ISSUER: facts.issuer,
                Attribute.SERIAL_NUMBER: integer(facts.serial),
            }
        )  # fmt: skip

    def claim(self, label: str, *flags: TokenFlag) -> None:
        """Let the token say this of its PIN, and nothing else of it: SoftHSM itself never locks a PIN."""
        path = self._file(label)
        data = path.read_bytes()
        at = data.index(_FLAGS) + len(_FLAGS)
        old = int.from_bytes(data[at : at + 8])
        new = old & ~0x000F0000
        for flag in flags:
            new |= flag
        path.write_bytes(data[:at] + new.to_bytes(8) + data[at + 8 :])
        self.restart()

    def _file(self, label: str) -> Path:
        padded = label.encode().ljust(32)
        (found,) = (
            path for path in self.hsm.folder.glob("tokens/*/token.object") if padded in path.read_bytes()
        )
        return found


def _decoded(issued: Issued) -> dict[Attribute, Any]:
    if isinstance(issued.key, rsa.RSAPrivateKey):
        form = PrivateFormat.TraditionalOpenSSL
        return decode_rsa_private_key(issued.key.private_bytes(Encoding.DER, form, NoEncryption()))
    assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
    form = PrivateFormat.TraditionalOpenSSL
    return decode_ec_private_key(issued.key.private_bytes(Encoding.DER, form, NoEncryption()))


class CountingToken:
    """A token that counts how often somebody tried to log in; all else is the token's own."""

    def __init__(self, token: Any) -> None:
        self._token = token
        self.logins = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._token, name)

    def open(self, **arguments: Any) -> Any:
        self.logins += "user_pin" in arguments
        return self._token.open(**arguments)


def pss_only(issued: Issued, authority: Authority) -> Issued:
    """Return the certificate with a key that says id-RSASSA-PSS, signed anew by the P-384 authority."""
    found = asn1_x509.Certificate.load(issued.certificate)
    found["tbs_certificate"]["subject_public_key_info"]["algorithm"] = {"algorithm": "rsassa_pss"}
    tbs = found["tbs_certificate"].dump(force=True)
    key = authority.issued.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    found["signature_value"] = key.sign(tbs, ec.ECDSA(hashes.SHA384()))
    return Issued(found.dump(force=True), issued.key, issued.chain)


@cache
def pki() -> TestPki:
    return make_pki(now=whole_second(SystemClock().now()))


@cache
def holder(kind: str) -> Issued:
    if kind == "pss":
        return pss_only(pki().issue_user("Kart pss", make_tckn(39), key="rsa2048"), pki().authorities["p384"])
    return pki().issue_user(f"Kart {kind}", make_tckn(40 + len(kind)), key=kind)


def run_sign(*arguments: object, typed: str | None = None) -> Result:
    """Run the command in this process; whatever is typed answers its questions."""
    result = CliRunner().invoke(main, ["sign", *map(str, arguments)], input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert WRONG not in result.output
    assert PIN not in result.output
    return result


def with_card(label: str, *more: object, typed: str | None = PIN + "\n", module: Path = MODULE) -> Result:
    return run_sign("--pkcs11", module, "--token", label, *more, typed=typed)
