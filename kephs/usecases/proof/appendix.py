"""What makes a bundle more than its contents: signature, fetched revocation data, ledger proofs, the time.

They are made once per set of contents and kept, so that the same contents give the same bytes again.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from evidence.bundle.making import RevocationFile


class AppendixError(Exception):
    """What is stored cannot be read, by this version of the program at least: it is made anew."""


@dataclass(frozen=True, slots=True)
class Appendix:
    """One bundle's seal. ``proofs`` are files of `evidence.ledger.proof`, by evidence id.

    ``rounds``: the records inside are joined with so many rounds of renewal.
    """

    created_at: datetime
    revocation: tuple[RevocationFile, ...]
    checkpoint: bytes | None = None
    proofs: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    manifest_sha256: bytes = b""
    signature: bytes = b""  # p7s over the manifest
    rounds: int = 0

    def encode(self) -> bytes:
        """Return the stored form."""
        plain = {
            "created_at": self.created_at.isoformat(),
            "revocation": [[file.name, _text(file.content)] for file in self.revocation],
            "checkpoint": None if self.checkpoint is None else _text(self.checkpoint),
            "proofs": {evidence_id: _text(proof) for evidence_id, proof in self.proofs.items()},
            "manifest_sha256": self.manifest_sha256.hex(),
            "signature": _text(self.signature),
            "rounds": self.rounds,
        }
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, stored: bytes) -> "Appendix":
        """Read the stored form.

        Raises:
            AppendixError: it is none.
        """
        try:
            plain = json.loads(stored)
            return cls(
                datetime.fromisoformat(plain["created_at"]),
                _files(plain["revocation"]),
                None if plain["checkpoint"] is None else b64decode(plain["checkpoint"]),
                {evidence_id: b64decode(proof) for evidence_id, proof in plain["proofs"].items()},
                bytes.fromhex(plain["manifest_sha256"]),
                b64decode(plain["signature"]),
                int(plain.get("rounds", 0)),  # before rounds were joined nothing was written
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AppendixError(str(error)) from None


def _files(listed: Sequence[Sequence[str]]) -> tuple[RevocationFile, ...]:
    return tuple(RevocationFile(name, b64decode(content)) for name, content in listed)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
