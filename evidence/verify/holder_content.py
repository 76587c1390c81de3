"""What a sender's signature covers, as programs that know only exact octets see it."""

from evidence.asn1.der import DerError
from evidence.cms.signed_data import MESSAGE_DIGEST, SignedData
from evidence.mail.mime import MimeLimitError, Part
from evidence.mail.smime import SignedEntity, SmimeError, Variant, digest_variants, locate, read_signed
from evidence.ports import ByteSource


def signed_variant(source: ByteSource, entity: SignedEntity, signed: SignedData) -> Variant | None:
    """Return which variant of a message's octets its first signer signed; None: none of them."""
    if not signed.signers:
        return None
    signer = signed.signers[0]
    try:
        wanted = bytes(signer.signed_attribute(MESSAGE_DIGEST).content)
    except DerError:
        return None
    if signer.digest_name is None:
        return None
    for variant, found in digest_variants(source, entity, signed, (signer.digest_name,)):
        if found[signer.digest_name] == wanted:
            return variant
    return None


def is_exact(source: ByteSource, root: Part) -> bool:
    """Say whether the octets of a message as received are the signed ones: common tools can check them then.

    Some producers sign other line ends than they send (`evidence.mail.variants`).
    """
    try:
        entity = locate(source, root)
        return signed_variant(source, entity, read_signed(entity)) is Variant.EXACT
    except (SmimeError, DerError, MimeLimitError):
        return False
