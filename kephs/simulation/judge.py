"""The last day: everything sampled is verified offline, and every broken twin must fail.

Verified without the simulation's knowledge: from the objects, the rounds and the roots of that day alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import new as new_hash
from hashlib import sha256
from io import BytesIO
from typing import Final

from evidence.asn1.der import children, integer, parse, seq
from evidence.bundle.archive_read import ArchiveObject
from evidence.bundle.making import BundleContents, RevocationFile, plan_bundle
from evidence.ledger.chain import LedgerEntry
from evidence.model.records import SealedEvidence
from evidence.ports import BytesSource
from evidence.report import Report, Step, Verdict
from evidence.stamps.ers import HashTree, encode_record, read_record
from evidence.stamps.ers_check import RecordCheck, check_record
from evidence.stamps.renewal import Link, RenewalError, Round, joined_record, links_of
from evidence.stamps.renewal_check import authorities_step
from evidence.verify.bundle import verify_bundle
from evidence.verify.evidence import check_evidence
from evidence.x509.offline import OfflineRevocation
from evidence.x509.revocation import revoked_by
from evidence.x509.role import SealPolicy
from evidence.xml.reader import format_time
from kephs.simulation.story import Story
from kephs.usecases.archive.preserve_due import FIRST_HASH

TWINS: Final = 3
"""Evidences of which every broken twin is tried."""
LONG: Final = 15
"""Years after which a round six rounds ago is too old: authorities live five."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One evidence as it lies in the archive, with its record of today."""

    number: int
    entry: LedgerEntry
    xml: bytes
    stored: bytes | None
    joined: bytes
    material: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Twin:
    """A broken twin: it must not pass."""

    turkish: str
    english: str
    verdict: Verdict | None
    cause: str

    @property
    def failed(self) -> bool:
        """Say whether it failed, as it must."""
        return self.verdict is not Verdict.PASSED


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the last day showed."""

    sampled: int
    passed: int
    problems: tuple[str, ...]
    bundles: int
    bundles_passed: int
    stamps_longest: int
    twins: tuple[Twin, ...]


class Judge:
    """Verifies as a court would on the last day.

    Args:
        story: the years that passed.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._trust = story.authorities.trust
        self._at = story.clock.now()
        self._policy = SealPolicy(algorithms=story.authorities.algorithms())

    async def judge(self, samples: int, bundles: int) -> Judgement:
        """Verify evenly spread samples, bundles of some of them, and the twins."""
        total = len(self._story.archive.rows.evidence)
        count = min(samples, total)
        numbers = [1 + index * total // count for index in range(count)]
        problems: list[str] = []
        longest = 0
        for number in numbers:
            one = await self.sample(number)
            found = self.check(one)
            longest = max(longest, len(found[1].tokens))
            if (problem := _problem(one, *found)) is not None:
                problems.append(f"{number}: {problem}")
        picked = numbers[:: max(1, count // bundles)][:bundles] if bundles else []
        good = 0
        for number in picked:
            report = await self._bundle(await self.sample(number))
            good += report.passed
            if not report.passed:
                problems.append(f"bundle {number}: {_cause(report)}")
        twins = [twin for number in numbers[:TWINS] for twin in await self._twins(number)]
        return Judgement(
            count, count - sum(not text.startswith("bundle") for text in problems), tuple(problems),
            len(picked), good, longest, tuple(twins),
        )  # fmt: skip

    async def sample(self, number: int) -> Sampled:
        """Read an evidence, its record of today, and what was collected about everybody behind it."""
        archive, records = self._story.archive, self._story.preserve.records
        holder = await archive.object_of(number)
        item = next(one for one in holder.evidences if one.entry.number == number)
        joined = await records.record_of(number, item.xml, item.ers)
        if joined is None:
            raise RenewalError(f"no round covers evidence {number}")
        material = _material(holder) | dict(await records.material_of(number)) | await self._today()
        return Sampled(number, item.entry, item.xml, item.ers, joined, material)

    async def _today(self) -> dict[str, bytes]:
        """Return what is said today of the newest authority: what a court can still ask for."""
        stamping = self._story.authorities.stamping
        assert stamping is not None
        return await self._story.archive.asked(stamping.issued)

    # ----------------------------------------------------------------- passing

    def check(self, one: Sampled, ers: bytes | None = None) -> tuple[Report, RecordCheck, Step, Step]:
        """Verify an evidence: itself, its record under today's table, and the two steps on revocation."""
        used = one.joined if ers is None else ers
        evidence = check_evidence(one.xml, self._trust, self._at, self._policy, ers=used)
        record = check_record(
            used, _digests(one.xml), self._trust, self._at, algorithms=self._policy.algorithms
        )
        known = OfflineRevocation(_of(one.material, ".ocsp"), _of(one.material, ".crl"))
        stamps = authorities_step(record, known, self._trust, self._at)
        signer = Step("9", "transaction certificate", ok=False, detail="no path")
        if evidence.chain is not None and evidence.stamped_at is not None:
            leaf, issuer = evidence.chain.links[0]
            answer = known.answer(leaf, issuer, self._trust, evidence.stamped_at)
            good = answer is not None and not revoked_by(answer, evidence.stamped_at)
            signer = Step("9", "transaction certificate", ok=good, detail="" if good else "revoked or silent")
        return evidence.report, record, stamps, signer

    async def _bundle(self, one: Sampled) -> Report:
        """Make a stand-alone bundle today and verify it as `kephs verify` does."""
        archive = self._story.archive
        facts = check_evidence(one.xml, self._trust, self._at, self._policy, ers=one.joined)
        assert facts.record is not None
        assert archive.transaction is not None
        today = await archive.asked(archive.transaction)
        revocation = [
            RevocationFile(name.rpartition("/")[2], content)
            for name, content in {**one.material, **today}.items()
            if name.endswith((".ocsp", ".crl"))
        ]
        plan = plan_bundle(
            BundleContents(
                BytesSource(archive.originals[one.number]),
                (SealedEvidence(facts.record, one.xml, one.joined),),
                revocation=revocation,
                roots=[root.der for root in self._trust.roots],
                ledger=(one.entry,),
            ),
            created_at=self._at,
        )
        out = BytesIO()
        plan.write(await archive.sealer.sign_entity(plan.digest, self._at), out)
        return verify_bundle(BytesSource(out.getvalue()), self._trust, self._at)

    # ----------------------------------------------------------------- failing

    async def _twins(self, number: int) -> list[Twin]:
        one = await self.sample(number)
        rounds = [known.head.round for known in await self._story.preserve.records.rounds()]
        links = await self._links(one)
        older = [link for link in links if link.hash_name == FIRST_HASH]
        twins = [
            self._twin("aradaki bir yenileme atlandı", "one round in between left out", one,
                       without_stamp(one.joined, max(0, min(2, len(older) - 2)))),
            self._twin("başka kanıtın kaydı", "the record of another evidence", one,
                       (await self.sample(self._other(number))).joined),
            self._twin("kanıtta bir harf değişti", "one letter of the evidence changed", one, one.joined,
                       xml=one.xml.replace(b"Deneme", b"Denene", 1)),
            self._twin("kayıtta bir bit değişti", "one bit of the record changed", one, _flipped(one.joined)),
        ]  # fmt: skip
        if len(self._story.years) >= LONG:
            twins += [
                self._twin("son yıllarda yenileme yapılmadı", "no round in the last years", one,
                           _encoded(joined_record(one.stored, links[:-6]))),
                self._twin("hiç yenilenmedi", "never renewed", one,
                           _encoded(joined_record(one.stored, links[:1]))),
            ]  # fmt: skip
        if len(older) < len(links):
            grown = self._without_rehash(
                one, older, [each for each in rounds if each.hash_name != FIRST_HASH]
            )
            twins.append(
                self._twin("SHA-512'ye geçilmedi", "renewed every year, but never under SHA-512", one, grown)
            )
        if (late := await self._late()) is not None:
            twins.append(late)
        return twins

    def _other(self, number: int) -> int:
        """Return an evidence of another batch: two of one batch may rightly have one record."""
        total = len(self._story.archive.rows.evidence)
        return (number + total // 2 - 1) % total + 1

    async def _links(self, one: Sampled) -> list[Link]:
        records, trees, rounds = self._story.preserve.records, {}, []
        for known in await records.rounds():
            rounds.append(known.head.round)
            position = known.head.round.span_of(one.number)
            if position is not None:
                trees[known.head.round.number] = await records.span(known.head.span_names[position])
        return links_of(one.number, one.stored, _digests(one.xml), rounds, lambda each, _: trees[each.number])

    def _without_rehash(self, one: Sampled, older: Sequence[Link], later: Sequence[Round]) -> bytes:
        """Return the record as it were had its provider gone on under SHA-256, on the same days."""
        links, token = list(older), older[-1].token
        for each in later:
            leaf = sha256(token).digest()
            token = self._story.authorities.token(self._story.stamping_at(each.at), leaf, FIRST_HASH, each.at)
            links.append(Link(FIRST_HASH, leaf, (), token))
        return _encoded(joined_record(one.stored, links))

    def _twin(
        self, turkish: str, english: str, one: Sampled, ers: bytes, *, xml: bytes | None = None
    ) -> Twin:
        spoiled = Sampled(one.number, one.entry, xml or one.xml, one.stored, ers, one.material)
        evidence, record, stamps, signer = self.check(spoiled)
        for report in (evidence, record.report):
            if not report.passed:
                return Twin(turkish, english, report.verdict, _cause(report))
        for step in (stamps, signer):
            if step.ok is not True:
                return Twin(turkish, english, step.verdict or Verdict.FAILED, f"{step.name}: {step.detail}")
        return Twin(turkish, english, Verdict.PASSED, "")

    async def _late(self) -> Twin | None:
        """Return a record whose token the revoked authority made after its revocation."""
        remembered = self._story.remembered
        if remembered.revoked_stamping is None or remembered.revoked_at is None:
            return None
        data = b"too late"
        at = remembered.revoked_at + timedelta(days=2)
        tree = HashTree([sha256(data).digest(), bytes(32)])
        token = self._story.authorities.token(remembered.revoked_stamping, tree.root, FIRST_HASH, at)
        seen = at + timedelta(days=90)
        record = check_record(encode_record(tree.path(0), token), _digests(data), self._trust, seen)
        collected = [
            content
            for known in await self._story.preserve.records.rounds()
            for name, content in known.head.material.items()
            if name.endswith(".ocsp") and known.head.begun_at <= seen
        ]
        step = authorities_step(record, OfflineRevocation(collected, ()), self._trust, seen)
        verdict = Verdict.PASSED if step.ok else step.verdict
        return Twin(
            "iptalden sonra damgalandı", "stamped after the authority was revoked", verdict, step.detail
        )


def _problem(one: Sampled, evidence: Report, record: RecordCheck, stamps: Step, signer: Step) -> str | None:
    for report in (evidence, record.report):
        if not report.passed:
            return _cause(report)
    for step in (stamps, signer):
        if step.ok is not True:
            return f"{step.name}: {step.detail}"
    if evidence.facts["stamped_at"] != format_time(one.entry.at):
        return f"it proves {evidence.facts['stamped_at']}, entered {format_time(one.entry.at)}"
    return None


def without_stamp(record: bytes, index: int) -> bytes:
    """Return a record without one time stamp of its first chain, as somebody who hides a gap would."""
    read = read_record(record)
    first = [stamp.der for position, stamp in enumerate(read.chains[0]) if position != index]
    rest = [seq(*(stamp.der for stamp in chain)) for chain in read.chains[1:]]
    names = children(parse(record, max_size=len(record)), limit=5)[1].whole
    return seq(integer(1), names, seq(seq(*first), *rest))


def _encoded(record: bytes | None) -> bytes:
    if record is None:
        raise RenewalError("no round covers it")
    return record


def _digests(data: bytes) -> Callable[[str], bytes]:
    return lambda name: new_hash(name, data).digest()


def _of(material: dict[str, bytes], ending: str) -> list[bytes]:
    return [content for name, content in material.items() if name.endswith(ending)]


def _material(holder: ArchiveObject) -> dict[str, bytes]:
    return {name: content for name, content in holder.files.items() if name.startswith("dogrulama/")}


def _flipped(data: bytes) -> bytes:
    broken = bytearray(data)
    broken[len(broken) // 2] ^= 0x01
    return bytes(broken)


def _cause(report: Report) -> str:
    step = report.failing_step
    if step is None:
        worst = next((part for part in report.parts if not part.passed), None)
        return "?" if worst is None else f"{worst.subject}: {_cause(worst)}"
    sub = step.sub_indication.value if step.sub_indication else ""
    return f"{step.name}: {step.detail} {sub}".strip()
