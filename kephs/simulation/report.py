"""What the simulation has to say: year by year, what was verified, and what it means for a whole provider.

Figures per million are measured in the run; those for twelve billion are arithmetic on paper, with the
formula beside each.
"""

import platform
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

from evidence.stamps.renewal import SPAN, SpanTree
from kephs.simulation.archive import BATCH, OWN_EVERY, Cipher
from kephs.simulation.judge import Judge, Judgement
from kephs.simulation.story import Story, Year
from kephs.usecases.archive.preserve_object import write_span

PAPER: Final = 12_000_000_000
"""Evidences of a provider in twenty years: 600 million a year."""
SEALED: Final = 1000
"""Evidences of one batch and of one object, in a busy provider (the settings' largest)."""
CORES: Final = 16
_MILLION: Final = 1_000_000
_HOUR: Final = 3600
_SAMPLES: Final = 200
_BUNDLES: Final = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with the formula it comes from."""

    turkish: str
    english: str
    value: float
    unit: str
    formula: str


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """The outcome of a run."""

    years: tuple[Year, ...]
    evidences: int
    rounds: int
    restored: int
    corrupted: int
    judgement: Judgement
    measured: tuple[Figure, ...]
    paper: tuple[Figure, ...]
    machine: str

    @property
    def passed(self) -> bool:
        """Say whether everything sampled holds and every twin failed."""
        found = self.judgement
        every = found.passed == found.sampled and found.bundles_passed == found.bundles
        return every and found.sampled > 0 and all(twin.failed for twin in found.twins)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``; keys are stable."""
        plain = asdict(self)
        plain["passed"] = self.passed
        for twin in plain["judgement"]["twins"]:
            twin["verdict"] = None if twin["verdict"] is None else twin["verdict"].value
        return plain

    def lines(self) -> Iterator[str]:
        """Yield the report as text, Turkish beside English."""
        yield (
            f"Arşiv benzetimi / archive simulation: {len(self.years)} yıl / years, "
            f"{self.evidences} kanıt / evidences, {self.machine}"
        )
        yield ""
        for year in self.years:
            yield from _year_lines(year)
        yield ""
        yield from self._judgement_lines()
        for title, figures in (
            ("Ölçülen, milyon kanıt başına / measured, per million evidences", self.measured),
            (f"Kâğıt üzerinde / on paper, {PAPER:,} kanıt / evidences", self.paper),
        ):
            yield ""
            yield title
            for one in figures:
                yield f"  {one.turkish} / {one.english}: {_number(one.value)} {one.unit}"
                yield f"      = {one.formula}"
        yield ""
        words = "BAŞARILI / PASSED" if self.passed else "BAŞARISIZ / FAILED"
        yield f"Sonuç / result: {words}"

    def _judgement_lines(self) -> Iterator[str]:
        found, last = self.judgement, len(self.years)
        yield f"{last}. yılın sonunda çevrim dışı denetim / verified offline at the end of year {last}"
        yield (
            f"  kanıt / evidences: {found.passed} / {found.sampled} geçerli / pass, "
            f"en uzun kayıt / longest record: {found.stamps_longest} damga / time stamps"
        )
        yield f"  paket / bundles (.kepdelil): {found.bundles_passed} / {found.bundles} geçerli / pass"
        yield (
            f"  depo / store: {self.corrupted} bozulan / corrupted, "
            f"{self.restored} nesne kopyadan geri / objects restored from the copy"
        )
        for problem in found.problems:
            yield f"  SORUN / PROBLEM {problem}"
        yield "  bozuk ikizler, hiçbiri geçmemeli / broken twins, none may pass"
        seen = set()
        for twin in found.twins:
            words = twin.verdict.value if twin.verdict else "-"
            line = f"    {twin.turkish} / {twin.english}: {words} ({twin.cause})"
            key = (twin.english, words)
            if key not in seen:
                seen.add(key)
                yield line


async def simulate(
    years: int,
    evidences: int,
    *,
    samples: int = _SAMPLES,
    bundles: int = _BUNDLES,
    folder: Path | None = None,
) -> SimulationReport:
    """Let the years pass in a temporary folder and judge at the end.

    Args:
        years: how many, 1 to 20.
        evidences: how many in all.
        samples: how many are verified at the end.
        bundles: how many bundles are made and verified.
        folder: where the temporary folder is made; None: where the system makes them.
    """
    with TemporaryDirectory(prefix="kephs-simulation-", dir=folder) as made:
        story = Story(Path(made), years, evidences)
        try:
            await story.run()
            began = perf_counter()
            judgement = await Judge(story).judge(samples, bundles)
            judging = perf_counter() - began
            return _report(story, judgement, judging)
        finally:
            await story.archive.close()


def _report(story: Story, judgement: Judgement, judging: float) -> SimulationReport:
    archive = story.archive
    rounds = archive.rows.made
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    measured = tuple(_measured(story, judgement, judging))
    return SimulationReport(
        tuple(story.years), len(archive.rows.evidence), len(rounds), story.restored, story.corrupted,
        judgement, measured, tuple(_paper(story, {one.english: one.value for one in measured})), machine,
    )  # fmt: skip


def leaf_seconds() -> float:
    """Return the seconds that one leaf of a full span costs: tree, container and encryption."""
    data = secrets.token_bytes(32 * SPAN)
    cipher = Cipher()
    began = perf_counter()
    tree = SpanTree([data[at : at + 32] for at in range(0, len(data), 32)], "sha256")
    cipher.seal("yenileme/span", write_span(1, SPAN, tree))
    return (perf_counter() - began) / SPAN


_LEAF: Final = "a yearly round, by new leaf"
_REHASH: Final = "hash-tree renewal, by evidence"
_SEAL: Final = "sealing and archiving"
_FIXITY: Final = "fixity"
_VERIFY: Final = "verification at the end"
_SIZE: Final = "evidence with its record"


def _measured(story: Story, judgement: Judgement, judging: float) -> Iterator[Figure]:
    years, count = story.years, len(story.archive.rows.evidence)

    def seconds(work: str) -> float:
        return sum(year.seconds.get(work, 0.0) for year in years)

    archived = sum(year.bytes_archived for year in years)
    per_million = _MILLION / _HOUR
    yield Figure("mühürleme ve arşivleme", _SEAL, seconds("seal") / count * per_million, "saat / h",
                 f"{seconds('seal'):.1f} s / {count} x 10^6 / 3600")  # fmt: skip
    leaf = leaf_seconds()
    yield Figure("yıllık tur, yeni yaprak başına", _LEAF, leaf * per_million, "saat / h",
                 f"{leaf * 1e6:.2f} us x 10^6 / 3600 ({SPAN} yaprak: ağaç, nesne, şifre; satırları okumak "
                 "hariç / leaves: tree, object, encryption; without reading the rows)")  # fmt: skip
    rehashed = sum(year.leaves for year in years if "rehash" in year.seconds)
    if rehashed:
        yield Figure("özet ağacı yenileme, kanıt başına", _REHASH,
                     seconds("rehash") / rehashed * per_million, "saat / h",
                     f"{seconds('rehash'):.2f} s / {rehashed} x 10^6 / 3600")  # fmt: skip
    checked = sum(year.bytes_checked for year in years)
    rate = checked / seconds("fixity") / 1e6 if seconds("fixity") else 0.0
    yield Figure("bütünlük denetimi", _FIXITY, rate, "MB/s",
                 f"{checked / 1e6:.1f} MB / {seconds('fixity'):.2f} s "
                 "(küçük nesneler / small objects)")  # fmt: skip
    yield Figure("sonda doğrulama", _VERIFY, judging / max(1, judgement.sampled) * per_million, "saat / h",
                 f"{judging:.1f} s / {judgement.sampled} x 10^6 / 3600 "
                 "(paketler ve ikizlerle / with bundles and twins)")  # fmt: skip
    each = count / max(1, len(story.archive.rows.objects))
    yield Figure("arşiv nesneleri, bu koşuda", "archive objects, in this run",
                 archived / count * _MILLION / 1e9, "GB",
                 f"{archived / 1e6:.2f} MB / {count} x 10^6 (bir nesnede / in one object: {each:.0f} "
                 "kanıt / evidences)")  # fmt: skip
    content = story.archive.content
    yield Figure("kanıt ve kaydı", _SIZE, content / count * _MILLION / 1e9, "GB",
                 f"{content / 1e6:.2f} MB / {count} x 10^6 (XML, ers, arsiv.json; doğrulama verisi hariç / "
                 "without validation material, which is once an object)")  # fmt: skip
    renewals = sum(year.bytes_renewals for year in years)
    yield Figure("yenileme nesneleri", "renewal objects", renewals / 1e6, "MB",
                 f"{len(story.archive.rows.made)} tur / rounds, bu koşuda / in this run")  # fmt: skip
    tokens = sum(year.batch_tokens for year in years)
    yield Figure("damgalar, mühürlemede", "tokens, sealing", tokens / count * _MILLION, "damga / tokens",
                 f"{tokens} / {count} x 10^6 (en çok {BATCH} kanıta bir / one for {BATCH} at most, "
                 f"her {OWN_EVERY}. kanıtın kendi damgası / every {OWN_EVERY}th has its own)")  # fmt: skip
    rounds = len(story.archive.rows.made)
    yield Figure("damgalar, yenilemede", "tokens, renewal", rounds, "damga / tokens",
                 f"{rounds} tur / rounds x 1, kanıt sayısından bağımsız / whatever the number "
                 "of evidences")  # fmt: skip


def _paper(story: Story, measured: dict[str, float]) -> Iterator[Figure]:
    rounds, count = len(story.archive.rows.made), PAPER
    yield Figure(
        "yenileme damgaları", "renewal tokens", rounds, "damga / tokens", f"{rounds} tur / rounds x 1"
    )
    yield Figure("mühürleme damgaları", "sealing tokens", count / SEALED, "damga / tokens",
                 f"12 x 10^9 / {SEALED} kanıt bir damgada / evidences a token (batch)")  # fmt: skip
    few, many = count / SEALED * 32, count * 32
    yield Figure("SHA-256 yaprakları", "leaves under SHA-256", few / 1e9, "GB",
                 f"12 x 10^9 / {SEALED} x 32 B; hepsi kendi damgalıysa / with a token each: "
                 f"12 x 10^9 x 32 B = {_number(many / 1e9)} GB")  # fmt: skip
    yield Figure("SHA-512 yaprakları", "leaves under SHA-512", count * 64 / 1e9, "GB", "12 x 10^9 x 64 B")
    spans = -(-count // SPAN)
    yield Figure("ağaç başlığı", "head of the hash-tree renewal", spans * 190 / 1e9, "GB",
                 f"12 x 10^9 / {SPAN} = {spans:,} aralık / spans x ~190 B")  # fmt: skip
    leaf, rehash = measured.get(_LEAF, 0.0), measured.get(_REHASH, 0.0)
    yield Figure("yıllık turlar, toplam", "all yearly rounds", leaf * count / SEALED / _MILLION, "saat / h",
                 f"12 x 10^9 / {SEALED} x {leaf:.4f} h / 10^6; kendi damgalıysa / with a token each: "
                 f"{_number(leaf * count / _MILLION)} h; 12 x 10^9 satırı okumak hariç / without reading "
                 "12 x 10^9 rows")  # fmt: skip
    if rehash:
        hours = rehash * count / _MILLION
        yield Figure("özet ağacı yenileme", "hash-tree renewal", hours / CORES, "saat / h",
                     f"12 x 10^9 x {rehash:.3f} h / 10^6 = {_number(hours)} h, {CORES} çekirdekte / cores "
                     f"({_number(hours / CORES / 24)} gün / days)")  # fmt: skip
    size = measured.get(_SIZE, 0.0)
    yield Figure("arşiv", "archive", size * count / _MILLION / 1000, "TB",
                 f"12 x 10^9 x {size:.2f} GB / 10^6")  # fmt: skip


def _year_lines(year: Year) -> Iterator[str]:
    spent = " ".join(f"{work} {seconds:.2f}s" for work, seconds in sorted(year.seconds.items()))
    yield (
        f"{year.number:2}. yıl / year: {year.evidence} kanıt / evidences, "
        f"{year.batch_tokens} + {year.rounds} damga / tokens, "
        f"{(year.bytes_archived + year.bytes_renewals) / 1e6:.2f} MB; {spent}"
    )
    for words in year.happenings:
        yield f"      {words}"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:,.1f}"
