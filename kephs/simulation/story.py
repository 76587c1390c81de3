"""What happens in the years of the simulation, and when.

Times are years after the start. Time-stamping certificates live five years, transaction certificates three,
generations of authorities ten. The rounds of renewal are not planned here:
`kephs.usecases.archive.preserve` decides them by its rules, as it does in a real instance.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final

from kephs.ports.preservation import RenewalReason, RenewalRow
from kephs.simulation.archive import RETENTION, SimulatedArchive
from kephs.simulation.authorities import DOMAIN, YEAR, Authorities, MovingClock, Stamping
from kephs.usecases.archive.preserve import PreservationParts, Preserve
from kephs.usecases.archive.preserve_due import FIRST_HASH, PreservationRules

START: Final = datetime(2027, 1, 1, tzinfo=UTC)
ENTERING: Final = 11.9
"""Evidence is entered for so many years: sealing knows SHA-256 only, which is retired after twelve."""
RETIRED: Final = 12
MONTHS: Final = 12
_REASONS: Final = {
    RenewalReason.YEARLY: "yıllık / yearly",
    RenewalReason.EXPIRY: "sertifika bitiyor / certificate ends",
    RenewalReason.REVOKED: "sertifika iptal edildi / certificate revoked",
    RenewalReason.HASH: "özet algoritması emekli / hash retired",
}


@dataclass(slots=True)
class Year:
    """What one year brought. Seconds are of this machine's wall clock."""

    number: int
    happenings: list[str] = field(default_factory=list)
    evidence: int = 0
    batch_tokens: int = 0
    rounds: int = 0
    leaves: int = 0
    bytes_archived: int = 0
    bytes_renewals: int = 0
    bytes_checked: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Add the time of a block to a kind of work."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[work] = self.seconds.get(work, 0.0) + perf_counter() - began


@dataclass(slots=True)
class Remembered:
    """What the twins at the end need. ``stampings``: since when each authority was in use."""

    revoked_stamping: Stamping | None = None
    revoked_at: datetime | None = None
    stampings: list[tuple[datetime, Stamping]] = field(default_factory=list)


class Story:
    """Lets the years pass.

    Args:
        folder: an empty one for the stores.
        years: how many.
        evidences: how many in all.
    """

    def __init__(self, folder: Path, years: int, evidences: int) -> None:
        self.clock = MovingClock(START)
        self.authorities = Authorities(self.clock, START)
        self.archive = SimulatedArchive(folder, self.clock, self.authorities)
        self.years = [Year(number) for number in range(1, years + 1)]
        self.remembered = Remembered()
        self.restored = self.corrupted = 0
        self._evidences = evidences
        self._planned: list[tuple[float, Callable[[], Awaitable[str]]]] = []
        self._preserve: Preserve | None = None

    @property
    def preserve(self) -> Preserve:
        """Return what keeps the proofs alive."""
        assert self._preserve is not None
        return self._preserve

    def stamping_at(self, at: datetime) -> Stamping:
        """Return the authority that was in use at a time."""
        return [one for since, one in self.remembered.stampings if since <= at][-1]

    @property
    def year(self) -> Year:
        """Return the year that it is."""
        passed = int((self.clock.now() - START) / YEAR)
        return self.years[min(passed, len(self.years) - 1)]

    async def run(self) -> None:
        """Live through all years."""
        self._plan()
        months = len(self.years) * MONTHS
        entered = min(months, int(ENTERING * MONTHS))
        for month in range(months):
            await self._until(month / MONTHS)
            share = self._evidences * (month + 1) // entered - self._evidences * month // entered
            if month < entered:
                await self._enter(share)
            if month % MONTHS == MONTHS - 1:
                await self._fixity()
        await self._until(float(len(self.years)))
        await self._close()

    async def _close(self) -> None:
        """Make one more round where evidence of the last months is covered by none (short runs)."""
        rows = self.archive.rows
        if rows.first_at(rows.made[-1].last if rows.made else 0) is not None:
            name = rows.made[-1].hash_name if rows.made else FIRST_HASH
            row = await self.preserve.renew(RenewalReason.YEARLY, name)
            await self.archive.replicate()
            self._note_round(row, fresh_hash=False)

    # ----------------------------------------------------------------- what is planned

    def _plan(self) -> None:
        """Note what will happen; at the start everything is new."""
        planned: list[tuple[float, Callable[[], Awaitable[str]]]] = [
            (0.0, self._generation), (0.0, self._stamping), (0.0, self._transaction), (0.0, self._open),
            (2.8, self._transaction), (4.2, self._revoke_transaction), (4.5, self._stamping),
            (6.9, self._generation), (7.1, self._transaction), (7.3, self._revoke_stamping),
            (8.4, self._damage), (9.9, self._transaction), (11.0, self._announce),
            (11.3, self._stamping512), (12.8, self._transaction),
            (14.5, self._lose), (14.9, self._generation), (15.7, self._transaction),
            (15.8, self._stamping512), (18.6, self._transaction),
        ]  # fmt: skip
        self._planned = [one for one in planned if one[0] < len(self.years)]

    async def _until(self, years: float) -> None:
        """Let happen what is planned up to a time; a day after each, the lane of the worker looks."""
        while self._planned and self._planned[0][0] <= years:
            at, happen = self._planned.pop(0)
            await self._wait(self.authorities.year(at))
            self._note(await happen())
            if at > 0:
                await self._wait(self.clock.now() + timedelta(days=1))
        await self._wait(self.authorities.year(years))

    async def _wait(self, until: datetime) -> None:
        """Let time pass; whenever a round is due on the way, the lane makes it."""
        while self._preserve is not None:
            due = self._preserve.planned(self.archive.rows)
            if due is None or due.at > until:
                break
            self.clock.move(due.at)
            await self._renew()
        self.clock.move(until)
        await self._renew()

    async def _generation(self) -> str:
        count = self.authorities.new_generation()
        return f"{count}. kuşak kök ve alt kök / generation {count} of root and issuers"

    def _new_stamping(self, *, sha512: bool) -> None:
        made = self.authorities.new_stamping(sha512=sha512)
        self.remembered.stampings.append((self.clock.now(), made))

    async def _stamping(self) -> str:
        self._new_stamping(sha512=False)
        return "yeni zaman damgası sertifikası, 5 yıl / new time-stamping certificate, 5 years"

    async def _stamping512(self) -> str:
        self._new_stamping(sha512=True)
        return (
            "yeni zaman damgası sertifikası, SHA-512 ile / new time-stamping certificate, signs with SHA-512"
        )

    async def _transaction(self) -> str:
        issued = self.authorities.new_transaction()
        self.archive.use(issued)
        return "yeni işlem sertifikası, 3 yıl / new transaction certificate, 3 years"

    async def _revoke_transaction(self) -> str:
        assert self.archive.transaction is not None
        self.authorities.revoke(self.archive.transaction, self.clock.now())
        await self._transaction()
        return "işlem sertifikası iptal, yenisi alındı / transaction certificate revoked and replaced"

    async def _revoke_stamping(self) -> str:
        old = self.authorities.stamping
        assert old is not None
        self.authorities.revoke(old.issued, self.clock.now())
        self.remembered.revoked_stamping, self.remembered.revoked_at = old, self.clock.now()
        self._new_stamping(sha512=False)
        return (
            "zaman damgası sertifikası iptal edildi (anahtar), yenisi alındı / "
            "time-stamping certificate revoked (key compromise) and replaced"
        )

    async def _announce(self) -> str:
        at = self.authorities.year(RETIRED)
        self.authorities.retire_sha256(at)
        return f"SHA-256 {at:%Y-%m-%d} günü emekli / SHA-256 is announced to end on {at:%Y-%m-%d}"

    async def _damage(self) -> str:
        _, _, ref = self.archive.rows.objects[len(self.archive.rows.objects) // 2]
        self.archive.damage(ref)
        self.corrupted += 1
        return "bir nesnede bir bit bozuldu (kimse bilmiyor) / one bit of one object rots (nobody knows)"

    async def _lose(self) -> str:
        await self.archive.lose()
        refs = self.archive.rows.refs
        with self.year.timed("restore"):
            await self.archive.restore(refs)
        self.restored += len(refs)
        self._start_preserving()
        return (
            f"nesne deposu kayboldu, {len(refs)} nesne kopyadan geri getirildi / "
            f"object store lost, {len(refs)} objects restored from the copy"
        )

    async def _open(self) -> str:
        self._start_preserving()
        return "arşiv açıldı, saklama 20 yıl / archive opened, retention 20 years"

    def _start_preserving(self) -> None:
        """Begin as a started process does: with nothing remembered."""
        parts = PreservationParts(
            self.archive.rows, self.archive.store, self.archive.cipher, self.archive, self.authorities,
            self.authorities, self.authorities.trust, self.clock, DOMAIN, RETENTION,
            self.authorities.algorithms, PreservationRules(look_every=timedelta(days=28)),
        )  # fmt: skip
        self._preserve = Preserve(parts, warn=lambda words: self._note(f"uyarı / warning: {words}"))

    # ----------------------------------------------------------------- what goes on all the time

    async def _enter(self, count: int) -> None:
        year, tokens = self.year, self.archive.batch_tokens
        before = sum(ref.size for ref in self.archive.rows.refs)
        with year.timed("seal"):
            await self.archive.enter(count)
        year.evidence += count
        year.batch_tokens += self.archive.batch_tokens - tokens
        year.bytes_archived += sum(ref.size for ref in self.archive.rows.refs) - before

    async def _renew(self) -> None:
        """Do what the worker's lane does: run while something is due."""
        if self._preserve is None:
            return
        year, before = self.year, len(self.archive.rows.renewal_objects)
        began = perf_counter()
        while (row := await self._preserve.run()) is not None:
            rounds = self.archive.rows.made
            fresh_hash = len(rounds) > 1 and rounds[-2].hash_name != row.hash_name
            work = "rehash" if row.hash_name != "sha256" and row.leaves else "renew"
            year.seconds[work] = year.seconds.get(work, 0.0) + perf_counter() - began
            self._note_round(row, fresh_hash=fresh_hash)
            await self.archive.replicate()
            began = perf_counter()
        fresh = self.archive.rows.renewal_objects[before:]
        year.bytes_renewals += sum(ref.size for ref in fresh)

    def _note_round(self, row: RenewalRow, *, fresh_hash: bool) -> None:
        year = self.year
        year.rounds += 1
        year.leaves += row.leaves
        more = ", öncekiler taşındı / earlier ones carried"
        if fresh_hash:
            more = ", her kanıt yeni zincirde / every evidence in a new chain"
        elif row.number == 1:
            more = ""
        self._note(
            f"yenileme / round {row.number}: {_REASONS[row.reason]}, {row.hash_name}, "
            f"{row.leaves} yeni yaprak / new leaves, 1 damga / token{more}"
        )

    async def _fixity(self) -> None:
        year = self.year
        with year.timed("fixity"):
            damaged = await self.archive.fixity()
        year.bytes_checked += sum(ref.size for ref in self.archive.rows.refs)
        if damaged:
            await self.archive.restore(damaged)
            self.restored += len(damaged)
            self._note(
                f"bütünlük denetimi: {len(damaged)} bozuk nesne bulundu, kopyadan onarıldı / "
                f"fixity: {len(damaged)} damaged object found, restored from the copy"
            )

    def _note(self, words: str) -> None:
        self.year.happenings.append(f"{self.clock.now():%Y-%m-%d} {words}")
