"""Keep proofs of time alive: rounds of renewal, one token each (signing.md 7, KEP-RT-01, RFC 4998).

A round in steps; whoever is killed in between begins again and finds what is there:

1. what revocation services say of the authorities whose tokens must hold today is collected first: after
   their certificates end, nobody tells any more
2. for each span of the ledger the leaves are computed and its object is written; its name and octets follow
   from what it covers
3. the manifest names material, spans, the evidence objects covered first, and all earlier rounds
4. one token over the root; it is verified, and must not come from an authority known to be revoked
5. the head object is written; from now on the round exists
6. the row is written. Between 5 and 6 the round is found by its name and adopted: no second token is paid
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Final, TypeAlias

from evidence.ports import TimestampUnavailableError
from evidence.stamps.renewal import SPAN, Round, Span, SpanTree, ranges
from evidence.stamps.timestamps import verify_token
from evidence.x509.algorithms import DEFAULT_ALGORITHMS, AlgorithmPolicy
from evidence.x509.certificates import CertificateFacts, certificate_facts
from evidence.x509.chain import TrustStore
from evidence.x509.revocation import RevocationStatus
from kephs.ports.archive import ArchiveCipher
from kephs.ports.objects import ObjectRef, ObjectStore
from kephs.ports.outside import Clock, Revocation
from kephs.ports.preservation import (
    ArchivedRecords,
    PreservationStore,
    PreservationTx,
    RenewalReason,
    RenewalRow,
    RenewalStamper,
    StampAuthority,
)
from kephs.usecases.archive.preserve_due import FIRST_HASH, Due, PreservationRules, Situation, next_round
from kephs.usecases.archive.preserve_object import (
    Draft,
    RenewalObjectError,
    head_name,
    read_head,
    span_name,
    write_span,
)
from kephs.usecases.archive.preserve_records import KnownRound, RenewedRecords, found_round, row_of

_PAGE: Final = 10_000
_Path: TypeAlias = tuple[CertificateFacts, ...]


class MaterialMissingError(Exception):
    """Nobody says today whether an authority is revoked: the round waits (`wait_for_material`)."""


@dataclass(frozen=True, slots=True)
class PreservationParts:
    """What preservation works with.

    ``retention``: how long its objects are kept from now, no less than the archive's.
    ``place``: the kind of store behind ``objects`` ("files" or "s3").
    """

    store: PreservationStore
    objects: ObjectStore
    cipher: ArchiveCipher
    records: ArchivedRecords
    stamper: RenewalStamper
    revocation: Revocation
    trust: TrustStore
    clock: Clock
    provider: str
    retention: timedelta
    algorithms: Callable[[], AlgorithmPolicy] = lambda: DEFAULT_ALGORITHMS
    rules: PreservationRules = field(default_factory=PreservationRules)
    span: int = SPAN
    place: str = "files"


class Preserve:
    """Decides when a round is due and makes it. One instance a process; several processes agree in the end.

    Args:
        parts: what it works with.
        warn: told that revocation data is missing, and that an authority was revoked.
    """

    def __init__(self, parts: PreservationParts, *, warn: Callable[[str], object]) -> None:
        self._parts, self._warn = parts, warn
        self._read = RenewedRecords(parts.store, parts.objects, parts.cipher)
        self._revoked: set[bytes] = set()
        self._looked_at: datetime | None = None
        self._missing_since: datetime | None = None
        self._newest: tuple[int, _Path | None] | None = None

    @property
    def records(self) -> RenewedRecords:
        """Return what joins records with the rounds made so far."""
        return self._read

    def due(self, tx: PreservationTx) -> datetime | None:
        """Return when a round or a look at the authorities is due; None while nothing is archived."""
        now = self._parts.clock.now()
        found = self.planned(tx)
        if found is None:
            return None
        look = now if self._looked_at is None else self._looked_at + self._parts.rules.look_every
        return min(found.at, look)

    async def run(self) -> RenewalRow | None:
        """Ask about the authorities where that is due, and make a round where one is; else return None.

        Raises:
            MaterialMissingError: revocation data is missing and there is time to wait for it.
            TimestampUnavailableError: no usable token; what was written so far is used next time.
            kephs.ports.objects.ObjectError: the store does not take or give an object.
        """
        parts = self._parts
        now = parts.clock.now()
        await self._read.rounds()
        if self._looked_at is None or self._looked_at + parts.rules.look_every <= now:
            await self._look(now)
        due = await parts.store.read(self.planned)
        if due is None or due.at > now:
            return None
        return await self.renew(due.reason, due.hash_name)

    # ----------------------------------------------------------------- what is due

    def planned(self, tx: PreservationTx) -> Due | None:
        """Return the round that is due next, as far as is known today; None while nothing is archived."""
        rounds = tx.preservation.rounds()
        newest = rounds[-1] if rounds else None
        last = 0 if newest is None else newest.last
        paths = [_facts(one) for one in tx.preservation.authorities(last)]
        if (own := self._newest_path()) is not None:
            paths.append(own)
        revoked = {path[0].sha256 for path in paths if any(one.sha256 in self._revoked for one in path)}
        oldest = tx.preservation.first_at(last)
        situation = Situation(newest, oldest, [path[0] for path in paths], revoked)
        return next_round(situation, self._parts.clock.now(), self._parts.algorithms(), self._parts.rules)

    def _newest_path(self) -> _Path | None:
        """Return the path of the authority behind the newest round's token."""
        known = self._read.newest
        if known is None:
            return None
        one = known.head.round
        if self._newest is None or self._newest[0] != one.number:
            found = verify_token(one.token, imprint=lambda _: one.root, trust=self._parts.trust, at=one.at)
            self._newest = (one.number, None if found.chain is None else found.chain.certificates)
        return self._newest[1]

    async def _look(self, now: datetime) -> None:
        """Ask whether the authorities in use are revoked; who is silent is asked again next time."""
        for certificate, issuer in await self._links_in_use():
            answer = await self._parts.revocation.status(certificate, issuer, now)
            if answer is not None and answer.status is RevocationStatus.REVOKED:
                self._note_revoked(certificate)
        self._looked_at = now

    def _note_revoked(self, certificate: CertificateFacts) -> None:
        if certificate.sha256 not in self._revoked:
            self._revoked.add(certificate.sha256)
            self._warn(f"{certificate.subject_text} is revoked")

    async def _links_in_use(self) -> list[tuple[CertificateFacts, CertificateFacts]]:
        """Return each (certificate, issuer) behind tokens that must hold today, once."""
        known = self._read.newest
        last = 0 if known is None else known.head.covered
        used = await self._parts.store.read(lambda tx: tuple(tx.preservation.authorities(last)))
        found = [_facts(one) for one in used]
        if (own := self._newest_path()) is not None:
            found.append(own)
        links = {(one.sha256, above.sha256): (one, above) for path in found for one, above in pairwise(path)}
        return list(links.values())

    # ----------------------------------------------------------------- a round

    async def renew(self, reason: RenewalReason, hash_name: str) -> RenewalRow:
        """Make the next round now, whether it is due or not.

        Raises:
            As `run`.
        """
        parts, now = self._parts, self._parts.clock.now()
        known = await self._read.rounds()
        number = len(known) + 1
        found = await found_round(parts.objects, parts.cipher, number, self._read.newest)
        if found is not None:  # somebody died between head and row
            row, refs = found.row, found.objects
        else:
            row, refs = await self._made(number, known, reason, hash_name, now)
        await parts.store.write(lambda tx: tx.preservation.add_round(row, refs, parts.place))
        await self._read.rounds()
        return row

    async def _made(
        self, number: int, known: list[KnownRound], reason: RenewalReason, hash_name: str, now: datetime
    ) -> tuple[RenewalRow, tuple[ObjectRef, ...]]:
        parts = self._parts
        until = now + parts.retention
        material, missing = await self._material(reason, now)
        before = known[-1].head.round if known else None
        same = before is not None and before.hash_name == hash_name
        after = known[-1].head.covered if same else 0
        covered_before = known[-1].head.covered if known else 0
        upto = await parts.store.read(lambda tx: tx.preservation.watermark())
        spans, refs, leaves = await self._spans(number, hash_name, after, upto, until)
        fresh = await parts.store.read(lambda tx: tuple(tx.preservation.evidence_objects(covered_before)))
        draft = Draft(
            number, reason, hash_name, parts.provider, now, max(upto, covered_before), leaves, spans, fresh,
            material, missing, [one.plain for one in known],
            before.token if same and before is not None else None,
        )  # fmt: skip
        manifest = draft.manifest()
        token = await self._stamped(draft.round(manifest), now)
        plain = draft.write(manifest, token)
        head = read_head(plain, before)  # what cannot be read back is not written
        name = head_name(number)
        ref = await parts.objects.put(name, parts.cipher.seal(name, plain), until)
        return row_of(head, ref), (ref, *refs)

    async def _stamped(self, one: Round, now: datetime) -> bytes:
        """Return a token over the root that is worth its price.

        Raises:
            TimestampUnavailableError: the authority gave something else, or is revoked.
        """
        token = await self._parts.stamper.stamp(one.root, one.hash_name)
        at = max(now, self._parts.clock.now())
        found = verify_token(
            token,
            imprint=lambda name: one.root if name == one.hash_name else b"",
            trust=self._parts.trust,
            at=at,
            algorithms=self._parts.algorithms(),
        )
        if not found.passed or found.chain is None:
            step = found.report.failing_step
            raise TimestampUnavailableError(f"{step.name}: {step.detail}" if step else "not verified")
        if any(one.sha256 in self._revoked for one in found.chain.certificates):
            raise TimestampUnavailableError("the authority is revoked")
        return token

    async def _material(
        self, reason: RenewalReason, now: datetime
    ) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Collect what is said of the authorities in use, with their certificates.

        Raises:
            MaterialMissingError: something is missing and it is early enough to wait.
        """
        found: dict[bytes, tuple[str, bytes]] = {}
        missing = []
        links = await self._links_in_use()
        for certificate, issuer in links:
            for der in (certificate.der, issuer.der):
                found[sha256(der).digest()] = ("cer", der)
            answer = await self._parts.revocation.status(certificate, issuer, now)
            if answer is None:
                missing.append(certificate.sha256)
                continue
            found[sha256(answer.der).digest()] = (answer.source.value, answer.der)
            if answer.status is RevocationStatus.REVOKED:
                self._note_revoked(certificate)
        if missing and not self._waited(reason, now):
            raise MaterialMissingError(f"no revocation data for {len(missing)} of {len(links)} certificates")
        if not missing:
            self._missing_since = None
        return sorted(found.values()), missing

    def _waited(self, reason: RenewalReason, now: datetime) -> bool:
        """Say whether the round goes on without what is missing; a revocation is never waited out."""
        if self._missing_since is None:
            self._missing_since = now
            self._warn("revocation data of time-stamping authorities is missing")
        waited = now - self._missing_since >= self._parts.rules.wait_for_material
        return waited or reason is RenewalReason.REVOKED

    # ----------------------------------------------------------------- spans

    async def _spans(
        self, number: int, hash_name: str, after: int, upto: int, until: datetime
    ) -> tuple[tuple[Span, ...], tuple[ObjectRef, ...], int]:
        parts, spans, refs, count = self._parts, [], [], 0
        for first, last in ranges(after, upto, parts.span):
            if hash_name == FIRST_HASH:
                leaves: Iterable[bytes] = await self._stored_leaves(first, last)
            else:
                leaves = await self._read_leaves(hash_name, first, last)
            tree = SpanTree(leaves, hash_name)
            name = span_name(number, hash_name, first, last)
            refs.append(
                await parts.objects.put(name, parts.cipher.seal(name, write_span(first, last, tree)), until)
            )
            spans.append(Span(first, last, tree.root))
            count += len(tree.leaves)
        return tuple(spans), tuple(refs), count

    async def _stored_leaves(self, first: int, last: int) -> list[bytes]:
        """Return leaves under SHA-256 from the rows alone: no object is read.

        A token's SHA-256 is its leaf; where the time stamp is inside, the evidence's own is.
        """
        leaves: list[bytes] = []
        at = first - 1
        while at < last:
            page = await self._parts.store.read(
                lambda tx, at=at: tuple(tx.preservation.covered(at, min(_PAGE, last - at)))  # type: ignore[misc]
            )
            if [one.number for one in page] != list(range(at + 1, at + 1 + len(page))) or not page:
                raise RenewalObjectError(f"the ledger has a gap behind {at}")
            again = await self._leaves_again([one.number for one in page if one.read_again])
            leaves += [again.get(one.number) or one.token_sha256 or one.sha256 for one in page]
            at = page[-1].number
        return leaves

    async def _leaves_again(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return leaves under SHA-256 that rows cannot tell; objects are read once, in their order."""
        found: dict[int, bytes] = {}
        if numbers:
            wanted = frozenset(numbers)
            async for one in self._parts.records.read(numbers[0], numbers[-1]):
                if one.number in wanted:
                    found[one.number] = await self._read.leaf_of(one, FIRST_HASH)
            if len(found) != len(wanted):
                raise RenewalObjectError("the archive lacks evidence of its rows")
        return found

    async def _read_leaves(self, hash_name: str, first: int, last: int) -> list[bytes]:
        """Return leaves under another hash: everything is read again (signing.md 7, hash-tree renewal)."""
        leaves: list[bytes] = []
        expected = first
        async for one in self._parts.records.read(first, last):
            if one.number != expected:
                raise RenewalObjectError(f"the archive has a gap before {one.number}")
            expected += 1
            leaves.append(await self._read.leaf_of(one, hash_name))
        if expected != last + 1:
            raise RenewalObjectError(f"the archive ends before {last}")
        return leaves


def _facts(one: StampAuthority) -> _Path:
    return tuple(certificate_facts(der) for der in one.path)
