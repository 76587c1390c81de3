"""Evidence records over any bytes, from the TEST authority without HTTP."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from evidence.stamps.ers import HashTree, encode_record
from evidence.stamps.timestamps import build_request, parse_response
from tests.support.pki import NOW, shared_pki


def token_over(digest: bytes, at: datetime = NOW) -> bytes:
    """Return a token of the TEST authority."""
    return parse_response(shared_pki().timestamp_reply(build_request(digest, secrets.randbits(64)), at))


@lru_cache(maxsize=2048)
def proof_over(content: bytes, at: datetime = NOW) -> bytes:
    """Return the evidence record of a batch of one."""
    digest = sha256(content).digest()
    return encode_record(HashTree([digest]).path(0), token_over(digest, at))


def proofs_over(contents: Sequence[bytes], at: datetime = NOW) -> list[bytes]:
    """Return the evidence records of one batch."""
    tree = HashTree([sha256(content).digest() for content in contents])
    token = token_over(tree.root, at)
    return [encode_record(tree.path(index), token) for index in range(len(contents))]
