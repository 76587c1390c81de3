"""Changes that spoil one value of a message in the making; the tables of spoils name them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from evidence.asn1.der import explicit, integer, octets, seq
from tests.support import nes_zoo_ades as ades
from tests.support import nes_zoo_pki as pki
from tests.support.nes_zoo import DAY, HOUR, Workshop
from tests.support.pki import NOW


def field(**values: Any) -> Callable[[Any, Workshop], Any]:
    """Replace fields of a dataclass; a function as value is applied to the old one."""

    def change(value: Any, _: Workshop) -> Any:
        new = {name: to(getattr(value, name)) if callable(to) and name != "finish" else to
               for name, to in values.items()}  # fmt: skip
        return replace(value, **new)

    return change


def entry(**values: Any) -> Callable[[Any, Workshop], Any]:
    """Replace entries of a dict (a function is applied to the old value); None takes one away."""

    def change(value: Any, _: Workshop) -> Any:
        changed = dict(value)
        for name, to in values.items():
            changed[name] = to(value.get(name)) if callable(to) else to
            if changed[name] is None:
                del changed[name]
        return changed

    return change


def listed(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any, Workshop], Any]:
    return lambda value, _: change(list(value))


def plain(change: Callable[[Any], Any]) -> Callable[[Any, Workshop], Any]:
    return lambda value, _: change(value)


def without(kind: str) -> Callable[[Any, Workshop], Any]:
    return lambda value, _: {name: values for name, values in value.items() if name != kind}


def flipped(at: int = -1) -> Callable[[Any, Workshop], Any]:
    return lambda value, _: pki.flip(value, at)


def stranger(name: str, kind: str = "p256") -> pki.Entity:
    """Return a root that nobody configured."""
    return pki.certify(pki.authority(name, kind, role=f"stranger {name}", path_length=None), None)


def impostor(real: pki.Entity, _: Workshop | None = None) -> pki.Entity:
    """Return an authority with a real one's name and key identifier, but keys and a root of its own."""
    profile = replace(
        real.profile, key=pki.key_of(f"impostor {real.profile.name}", "p256"), key_id=real.key_id
    )
    return pki.certify(profile, impostor(real.issuer) if real.issuer else None)


def doubled(kind: str) -> Callable[[Any], bytes]:
    """Give an attribute its value twice over: two values that differ in one octet."""

    def change(der: bytes) -> bytes:
        value = pki.members(pki.members(der)[1].whole)[0].whole
        return ades.attribute(kind, value, pki.flip(value))

    return change


def long_form(der: bytes) -> bytes:
    """Write the outermost length with one octet more than needed, as BER may."""
    content = pki.body(der)
    return b"\x30\x83" + len(content).to_bytes(3, "big") + content


def indefinite(der: bytes) -> bytes:
    return b"\x30\x80" + pki.body(der) + b"\0\0"


def first(change: Callable[[Any], Any]) -> Callable[[Any, Workshop], Any]:
    return listed(lambda values: [change(values[0]), *values[1:]])


def last(change: Callable[[Any], Any]) -> Callable[[Any, Workshop], Any]:
    return listed(lambda values: [*values[:-1], change(values[-1])])


def raw_ecdsa(value: bytes) -> bytes:
    """Return r||s instead of the DER SEQUENCE, as XML and PKCS #11 have it."""
    numbers = [int.from_bytes(node.content, "big") for node in pki.members(value)]
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def other_time(**delta: Any) -> Callable[[Any, Workshop], Any]:
    return lambda value, _: value + timedelta(**delta)


def revocation_by(name: str) -> Callable[[Any, Workshop], Any]:
    """Let another entity answer."""
    return lambda value, shop: replace(value, by=shop.entities[name])


def foreign_list(_: Any) -> pki.RevocationList:
    return pki.RevocationList(stranger("foreign list"), NOW - HOUR, NOW + DAY)


def spoil_message(old: bytes, new: bytes) -> Callable[[Any, Workshop], Any]:
    def change(value: bytes, _: Workshop) -> bytes:
        assert value.count(old) == 1, old
        return value.replace(old, new)

    return change


def inside_mixed(message: bytes) -> bytes:
    """Put the whole signed part under a multipart/mixed."""
    cut = message.index(b"Content-Type: multipart/signed")
    return (
        message[:cut] + b'Content-Type: multipart/mixed; boundary="outer"\r\n\r\n--outer\r\n'
        + message[cut:] + b"\r\n--outer--\r\n"
    )  # fmt: skip


def second_part(part: bytes) -> Callable[[bytes], bytes]:
    def change(message: bytes) -> bytes:
        mark = b"\r\n--TESTboundary0001--"
        assert message.count(mark) == 1
        return message.replace(mark, b"\r\n--TESTboundary0001\r\n" + part + mark)

    return change


def content_of(der: bytes) -> bytes:
    return pki.body(der)


def hash_in(der: bytes) -> bytes:
    return next(node.content for node in pki.members(der) if node.tag == 4)


def ess_v1(shop: Workshop) -> bytes:
    certificate_id = seq(octets(hashlib.sha1(shop.entities["s1"].der).digest()))
    return ades.attribute(ades.ESS_V1, seq(seq(certificate_id)))


def other_serial(der: bytes, shop: Workshop) -> bytes:
    holder = shop.entities["s1"]
    wrong = seq(seq(explicit(4, holder.path[0].profile.subject)), integer(7))
    return seq(octets(hash_in(der)), wrong)


def other_issuer(der: bytes, shop: Workshop) -> bytes:
    holder = shop.entities["s1"]
    wrong = seq(seq(explicit(4, holder.path[1].profile.subject)), integer(holder.profile.serial))
    return seq(octets(hash_in(der)), wrong)


def sid_of(entity: pki.Entity) -> bytes:
    above = entity.issuer or entity
    return seq(above.profile.subject, integer(entity.profile.serial))


def rsa_ca(bits: int, **more: Any) -> Callable[[Any, Workshop], Any]:
    return lambda profile, _: replace(profile, key=pki.key_of("ca", f"rsa{bits}"), **more)


def members_of(der: bytes) -> list[bytes]:
    return [node.whole for node in pki.members(der)]


def unnamed(found: dict[str, bytes], shop: Workshop) -> dict[str, bytes]:
    """Let a counter-signature name a certificate that is not there."""
    return found | {"sid": seq(shop.entities["ca"].profile.subject, integer(7))}


def many(count: int) -> Callable[[Any, Workshop], Any]:
    def change(value: dict[str, list[bytes]], _: Workshop) -> dict[str, list[bytes]]:
        (one,) = value[ades.COUNTER_SIGNATURE]
        return value | {ades.COUNTER_SIGNATURE: [one] * count}

    return change
