"""Evidence taken out of the archive's objects, whether or not the index knows its message.

After a rebuild into a database that is older than the archive, messages of the last days are not known:
their evidence stands in the ledger and in the objects, and not in the index. Nothing of it is lost; this is
the way to it until the messages come back from a newer backup, or for good where there is none.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from evidence.bundle.archive_object import ArchivedEvidence, ObjectKind
from evidence.bundle.archive_read import ArchiveObject
from kephs.ports import Store, Tx
from kephs.ports.archive import ArchivedObject
from kephs.usecases.archive.archived_proof import RenewedProofs
from kephs.usecases.archive.reading import ReadArchive

_PAGE: Final = 500
_REVOCATION: Final = (".ocsp", ".crl")


@dataclass(frozen=True, slots=True)
class TakenOut:
    """One evidence with what proves it. ``number``: in the ledger; ``ers``: as rounds of renewal left it.

    ``revocation``: DER by file name without folder.
    """

    number: int
    evidence_id: str
    message_id: str
    xml: bytes
    ers: bytes | None
    proof: bytes | None
    revocation: Mapping[str, bytes] = field(default_factory=dict)


class TakeOut:
    """Reads evidence from objects.

    Args:
        store: the rows.
        reader: opens objects.
        proofs: joins records with rounds of renewal.
    """

    def __init__(self, store: Store, reader: ReadArchive, proofs: RenewedProofs) -> None:
        self._store, self._reader, self._proofs = store, reader, proofs

    async def find(self, wanted: str) -> list[TakenOut]:
        """Return an evidence, or all evidence of a message, in the ledger's order; none where there is none.

        A message's evidence is looked for in every object, since the index may not know it.

        Args:
            wanted: id of an evidence, or of a message.

        Raises:
            kephs.ports.objects.ObjectError: a store does not answer, or an object must be restored.
        """
        number = await self._store.read(lambda tx: _number(tx, wanted))
        found: list[TakenOut] = []
        async for row in self._rows() if number is None else self._holding(number):
            one = await self._reader.open(row)
            for item in one.evidences:
                about = item.entry.evidence_id if number is not None else item.row.get("message_id")
                if about == wanted and not item.statement:
                    found.append(await self._taken(one, item))
        return sorted(found, key=lambda taken: taken.number)

    async def _holding(self, number: int) -> AsyncIterator[ArchivedObject]:
        row = await self._store.read(lambda tx: tx.archive.holding(ObjectKind.EVIDENCE, number))
        if row is not None:
            yield row

    async def _rows(self) -> AsyncIterator[ArchivedObject]:
        after = ""
        while page := await self._store.read(
            lambda tx, a=after: list(tx.archive.all(a, _PAGE, kind=ObjectKind.EVIDENCE))  # type: ignore[misc]
        ):
            for row in page:
                yield row
            after = page[-1].name

    async def _taken(self, one: ArchiveObject, item: ArchivedEvidence) -> TakenOut:
        number = item.entry.number
        renewed = await self._proofs.of(number, item.xml, item.ers)
        revocation = {
            name.rpartition("/")[2]: one.files[name] for name in item.material if name.endswith(_REVOCATION)
        }
        return TakenOut(
            number, item.entry.evidence_id, str(item.row.get("message_id", "")), item.xml, renewed.ers,
            item.proof, {**revocation, **renewed.revocation},
        )  # fmt: skip


def _number(tx: Tx, evidence_id: str) -> int | None:
    entry = tx.evidence.ledger_of(evidence_id)
    return None if entry is None else entry.number
