"""Packs of content in a hand-over: plain ZIPs whose members are named by their SHA-256."""

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from typing import Final

from evidence.bundle.zip_store import ArchiveError, read_archive, write_archive
from evidence.ports import BytesSource
from kephs.ports import Blob

PACK_OF: Final = 1_000
PACK_OCTETS: Final = 32 << 20
"""A pack is closed when it has so many octets; one content that is larger has its own."""


def pack_name(digests: Sequence[bytes]) -> str:
    """Return the name of a pack of content: it follows from what is inside."""
    return f"icerik/{digests[0].hex()[:16]}-{sha256(b''.join(digests)).hexdigest()[:32]}.pak"


def write_pack(contents: Mapping[bytes, bytes]) -> bytes:
    """Return a pack: a plain ZIP of contents, each named by its SHA-256.

    Args:
        contents: by SHA-256, ascending.
    """
    out = BytesIO()
    write_archive(
        out, [(digest.hex(), BytesSource(content)) for digest, content in contents.items()],
        crcs={digest.hex(): zlib.crc32(content) for digest, content in contents.items()},
    )  # fmt: skip
    return out.getvalue()


def pack_holding(names: Sequence[str], digest: bytes) -> str | None:
    """Return which pack would hold a content; None where none can.

    Args:
        names: of all packs, ascending.
        digest: SHA-256 of the content.
    """
    at = bisect_left(names, f"icerik/{digest.hex()[:16]}.") - 1  # "." sorts behind "-"
    return names[at] if at >= 0 else None


def packs_of(blobs: Iterable[Blob]) -> Iterator[list[Blob]]:
    """Yield content pack by pack.

    Args:
        blobs: ascending by SHA-256.
    """
    pack: list[Blob] = []
    octets = 0
    for blob in blobs:
        if pack and (len(pack) == PACK_OF or octets + blob.size > PACK_OCTETS):
            yield pack
            pack, octets = [], 0
        pack.append(blob)
        octets += blob.size
    if pack:
        yield pack


def read_pack(content: bytes) -> dict[bytes, bytes]:
    """Return the contents of a pack by SHA-256, each compared with its name.

    Raises:
        ValueError: not a pack as `write_pack` makes it, or a content that is not its name's.
    """
    try:
        archive = read_archive(BytesSource(content))
        if not archive.exact:
            raise ValueError("not byte for byte as a pack is written")
        found = {}
        for member in archive.members:
            body = archive.open(member).read(0, member.size)
            digest = sha256(body).digest()
            if digest.hex() != member.name:
                raise ValueError(f"{member.name[:64]} is another content than its name says")
            found[digest] = body
    except ArchiveError as error:
        raise ValueError(f"not a pack: {error}") from None
    return found
