"""A stranger checks our evidence records: an ASN.1 library for the record, openssl for the token."""

import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import new as new_hash
from pathlib import Path

import pytest
from pyasn1.codec.der.decoder import decode  # type: ignore[import-untyped]
from pyasn1.codec.der.encoder import encode  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc4998  # type: ignore[import-untyped]

from evidence.stamps.ers import HashTree, encode_record, new_chain, rehash_leaf, renew, renewal_leaf
from evidence.stamps.ers_check import check_record
from evidence.stamps.timestamps import build_request, parse_response
from evidence.x509.chain import TrustStore
from kephs.testpki.issued import to_pem
from tests.support.pki import make_pki
from tests.unit.test_verify_ers import DATA, batch_of, stamped

HASHES = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


@cache
def started() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)  # openssl looks at the real clock


@cache
def pki():
    return make_pki(now=started())


def token_over(root: bytes, at: datetime) -> bytes:
    return parse_response(pki().timestamp_reply(build_request(root, 2**64 + 1), at))


def stranger(ers: bytes, data: bytes) -> list[tuple[bytes, str, bytes]]:
    """Follow RFC 4998 4.3 and 5.3 with nobody's code but pyasn1: (root, hash, token) of each time stamp."""
    decoded, rest = decode(ers, asn1Spec=rfc4998.EvidenceRecord())
    assert not rest
    assert encode(decoded) == ers
    found = []
    older: list[object] = []
    for chain in decoded["archiveTimeStampSequence"]:
        covered = None
        for stamp in chain:
            name = HASHES[str(stamp["digestAlgorithm"]["algorithm"])]
            if covered is None:
                leaf = new_hash(name, data).digest()
                if older:
                    before = rfc4998.ArchiveTimeStampSequence()
                    before.extend(older)
                    leaf = new_hash(name, leaf + new_hash(name, encode(before)).digest()).digest()
            else:
                leaf = new_hash(name, covered).digest()
            lists = [[bytes(entry) for entry in entries] for entries in stamp["reducedHashtree"]]
            assert not lists or leaf in lists[0]
            value = leaf
            for number, entries in enumerate(lists):
                group = sorted(entries if number == 0 else [*entries, value])
                value = group[0] if len(group) == 1 else new_hash(name, b"".join(group)).digest()
            covered = encode(stamp["timeStamp"])
            found.append((value, name, covered))
        older.append(chain)
    return found


def openssl(folder: Path, root: bytes, token: bytes) -> subprocess.CompletedProcess[bytes]:
    (folder / "root.pem").write_bytes(to_pem([pki().root]))
    (folder / "chain.pem").write_bytes(to_pem(pki().intermediates))
    (folder / "token.der").write_bytes(token)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", "token.der", "-digest", root.hex()]
    command += ["-CAfile", "root.pem", "-untrusted", "chain.pem"]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)


@pytest.mark.tools
@pytest.mark.parametrize(("count", "index"), [(1, 0), (2, 1), (3, 2), (100, 57), (1000, 999)])
def test_a_stranger_comes_to_the_root_that_openssl_finds_in_the_token(count, index, tmp_path):
    tree = batch_of(DATA, count, index)
    ers = encode_record(tree.path(index), token_over(tree.root, started()))
    ((root, name, token),) = stranger(ers, DATA)
    assert (root, name) == (tree.root, "sha256")
    done = openssl(tmp_path, root, token)
    assert (done.returncode, b"Verification: OK" in done.stdout + done.stderr) == (0, True), done.stderr
    other = bytes((root[0] ^ 1, *root[1:]))
    assert openssl(tmp_path, other, token).returncode != 0
    assert openssl(tmp_path, root, token[:-1] + bytes((token[-1] ^ 1,))).returncode != 0


@pytest.mark.tools
def test_a_stranger_follows_renewals_and_new_chains_too(tmp_path):
    at = started() - timedelta(hours=3)
    tree = batch_of(DATA, 5, 3)
    ers = encode_record(tree.path(3), token_over(tree.root, at))
    tree = HashTree([bytes(32), renewal_leaf(ers), bytes((1,)) * 32])
    ers = renew(ers, tree.path(1), token_over(tree.root, at + timedelta(hours=1)))
    leaf = rehash_leaf(ers, new_hash("sha512", DATA).digest(), "sha512")
    tree = HashTree([bytes(64), leaf, bytes((1,)) * 64], "sha512")
    moment = at + timedelta(hours=2)
    ers = new_chain(
        ers, tree.path_alone(1), stamped(tree.root, moment, name="sha512", tsa=pki().tsa), "sha512"
    )
    found = stranger(ers, DATA)
    assert [name for _, name, _ in found] == ["sha256", "sha256", "sha512"]
    for root, _, token in found:
        assert openssl(tmp_path, root, token).returncode == 0
    checked = check_record(
        ers, lambda name: new_hash(name, DATA).digest(), TrustStore([pki().root]), started()
    )
    assert checked.passed
    assert checked.proven_at == at
