"""Checking a hand-over offline, before anything of it is believed (KEP-TM-03).

1 to 3. manifest, seal, role: `evidence.bundle.hand_over.judge_manifest`
4. lists: those that the manifest names, and nothing else is called a list
5. files: exactly those listed, by size and both digests
6. public ledger: the log signed it, its tiles give its root
7. key: it opens every file (7 to 13 need it; without: a note)
8. ledger: every entry follows from the one before, all of them give the public root
9. evidence: every entry has its own; seals of the objects hold; a spread of evidence verifies in full
10. process record: no entry changed, none missing, its anchors stand in the ledger
11. content: everything that messages and mailboxes name is there
12. rows: readable, each where it belongs
13. counts: as the manifest says
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from evidence.bundle.hand_over import (
    LIST_FOLDER,
    LIST_MAX,
    MANIFEST,
    MANIFEST_MAX,
    SEAL,
    SEAL_MAX,
    HandOverError,
    Listed,
    Manifest,
    is_sealed,
    judge_manifest,
    read_list,
    read_manifest,
)
from evidence.ledger.audit import audit
from evidence.ledger.merkle import MissingNodeError
from evidence.ledger.notes import MAX_NOTE, Checkpoint, NoteError, NoteVerifier, open_note
from evidence.ledger.tiles import TILE_BYTES, TileName
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.stamps.ers import ErsError
from evidence.stamps.renewal import RenewalError
from evidence.stamps.stamp_check import failed
from evidence.x509.chain import TrustStore
from evidence.x509.role import DEFAULT_SEAL_POLICY, SealPolicy
from kephs.ports import Clock, Offload
from kephs.ports.hand_over import PartCipher, PartMissingError, Parts, PartsError
from kephs.usecases.archive.preserve_object import RenewalObjectError
from kephs.usecases.ending.foreign import ForeignReader
from kephs.usecases.ending.foreign_rounds import ForeignRounds
from kephs.usecases.ending.hand_over import PART_MAX, PUBLIC_LEDGER
from kephs.usecases.ending.hand_over_contents import SAMPLE, Contents, Problems

_SUBJECTS: Final = (
    ("8", "ledger", "ledger"), ("9", "evidence", "evidence"), ("10", "record", "process record"),
    ("11", "content", "content"), ("12", "rows", "rows"), ("13", "counts", "counts"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HandOverCheck:
    """What a check found. ``manifest`` and ``files`` are there where they could be read."""

    report: Report
    manifest: Manifest | None = None
    content: bytes = b""  # the manifest's octets
    files: tuple[Listed, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether everything may be believed."""
        return self.report.passed


class CheckHandOver:
    """Checks a hand-over; see the module's docstring for the steps.

    Args:
        parts: the folder.
        offload: for hashing, decrypting and verifying.
        clock: the time.
        trust: roots; None or empty: at best INDETERMINATE.
        policy: which certificates seal.
        cipher: under the hand-over's key; None: what is sealed is compared with its digests alone.
        sample: evidences verified in full, at least; the digests of all are compared.
        ignored: files beside the hand-over's own that may be there.
        progress: told what is under way and how many files are done.
    """

    def __init__(
        self, parts: Parts, offload: Offload, clock: Clock, *, trust: TrustStore | None,
        policy: SealPolicy = DEFAULT_SEAL_POLICY, cipher: PartCipher | None = None, sample: int = SAMPLE,
        ignored: frozenset[str] = frozenset(),
        progress: Callable[[str, int], object] = lambda _what, _count: None,
    ) -> None:  # fmt: skip
        self._parts, self._offload, self._clock = parts, offload, clock
        self._trust = TrustStore(()) if trust is None else trust
        self._policy, self._cipher, self._sample = policy, cipher, sample
        self._ignored, self._progress = ignored, progress

    async def run(self) -> HandOverCheck:
        """Check everything; what is wrong stands in the report."""
        now = self._clock.now()
        try:
            content = await self._parts.get(MANIFEST, MANIFEST_MAX)
            seal = await self._parts.get(SEAL, SEAL_MAX)
        except PartMissingError as error:
            step = failed(
                "1", "form", f"{error}: the hand-over is not complete", SubIndication.SIGNED_DATA_NOT_FOUND
            )
            return HandOverCheck(conclude("hand-over", [step], now))
        except PartsError as error:
            return HandOverCheck(conclude("hand-over", [failed("1", "form", str(error))], now))
        judged = await self._offload.run(
            lambda: judge_manifest(content, seal, self._trust, now, self._policy)
        )
        steps = list(judged.steps)
        try:
            manifest = read_manifest(content)
        except HandOverError:
            return HandOverCheck(conclude("hand-over", steps, now))
        if judged.verdict is Verdict.FAILED:  # whoever signs nothing makes nobody read gigabytes
            return HandOverCheck(conclude("hand-over", steps, now, parts=judged.parts), manifest, content)
        lists_step, files = await self._lists(manifest)
        steps.append(lists_step)
        contents = Contents(manifest, self._trust, now, self._policy, sample=self._sample)
        key_step = self._key_step(manifest)
        if files is not None:
            steps += await self._files(files, contents if key_step.ok else None)
            steps.append(await self._offload.run(self._public_ledger, manifest, now))
        steps.append(key_step)
        if key_step.ok and files is not None:
            await self._offload.run(contents.finish)
            await self._verify(contents, manifest, files)
            steps += await self._offload.run(self._inside, contents, manifest)
        facts: dict[str, object] = {
            "provider": manifest.by.domain, "made_at": manifest.made_at.isoformat(),
            "by": manifest.by.person, "files": 0 if files is None else len(files),
            "counts": dict(manifest.counts), "verified_in_full": contents.verified,
        }  # fmt: skip
        report = conclude("hand-over", steps, now, facts=facts, parts=judged.parts)
        return HandOverCheck(report, manifest, content, files or ())

    # --- the frame ----------------------------------------------------------------------------

    async def _lists(self, manifest: Manifest) -> tuple[Step, tuple[Listed, ...] | None]:
        found: list[Listed] = []
        for one in manifest.lists:
            try:
                content = await self._parts.get(one.name, min(one.size, LIST_MAX))
                if not one.holds(content):
                    return failed("4", "lists", f"{one.name} is not what the manifest says"), None
                found += read_list(content, after=found[-1].name if found else "")
            except (HandOverError, PartsError) as error:
                return failed("4", "lists", str(error)), None
        return Step("4", "lists", ok=True, detail=f"{len(found)} files"), tuple(found)

    async def _files(self, files: tuple[Listed, ...], contents: Contents | None) -> list[Step]:
        problems, odd = Problems(), Problems()
        for number, one in enumerate(files, 1):
            try:
                stored = await self._parts.get(one.name, min(one.size, PART_MAX + (1 << 24)))
                await self._offload.run(self._take, one, stored, contents, problems, odd)
            except PartsError as error:
                problems.add(str(error))
            self._progress(one.name.split("/", 1)[0], number)
        known = {one.name for one in files} | {MANIFEST, SEAL} | self._ignored
        async for name in self._parts.names():
            if name not in known and not name.startswith(LIST_FOLDER):
                problems.add(f"{name[:120]} is not listed")
        step = (
            Step("5", "files", ok=True, detail=str(len(files)))
            if not problems.count
            else failed("5", "files", problems.told(), SubIndication.HASH_FAILURE)
        )
        if odd.count:
            return [step, failed("7.1", "sealed files", odd.told())]
        return [step]

    async def _verify(self, contents: Contents, manifest: Manifest, files: tuple[Listed, ...]) -> None:
        assert self._cipher is not None
        listed = {one.name: one for one in files}
        rounds = ForeignRounds(
            ForeignReader(self._parts, self._cipher, self._offload, manifest, listed).read, listed
        )
        for number, xml, ers in contents.samples:
            try:
                whole = await rounds.joined(number, xml, ers)
            except (HandOverError, PartsError, RenewalObjectError, RenewalError, ErsError) as error:
                contents.problems["evidence"].add(f"evidence {number}: {error}")
                continue
            await self._offload.run(contents.verify, number, xml, whole)

    def _take(
        self, one: Listed, stored: bytes, contents: Contents | None, problems: Problems, odd: Problems
    ) -> None:
        if not one.holds(stored):
            problems.add(f"{one.name} is not what its list says")
            return
        if contents is None or self._cipher is None or not is_sealed(one.name):
            return
        try:
            content = self._cipher.open(one.name, stored)
        except PartsError as error:
            odd.add(str(error))
            return
        contents.take(one.name, content)

    def _key_step(self, manifest: Manifest) -> Step:
        if self._cipher is None:
            return Step("7", "key", ok=None, detail="no key was given: what is sealed was not looked into")
        if self._cipher.check != manifest.key_check:
            return failed(
                "7", "key", "this is another hand-over's key", SubIndication.SIGNED_DATA_NOT_FOUND,
                Verdict.INDETERMINATE,
            )  # fmt: skip
        return Step("7", "key", ok=True)

    # --- ledger and inside --------------------------------------------------------------------

    def _public_ledger(self, manifest: Manifest, at: datetime) -> Step:
        if manifest.ledger.size == 0:
            return Step("6", "public ledger", ok=True, detail="no entries")
        try:
            log = NoteVerifier.parse(manifest.ledger.vkey)
            note = self._parts.get_now(f"{PUBLIC_LEDGER}checkpoint", MAX_NOTE)
            report = audit(note, note, self._tile, log, at)
        except (NoteError, PartsError, MissingNodeError) as error:
            return failed("6", "public ledger", str(error))
        step = report.failing_step
        if not report.passed:
            detail = f"{step.name}: {step.detail}" if step is not None else ""
            return failed("6", "public ledger", detail)
        return Step("6", "public ledger", ok=True, detail=f"{manifest.ledger.size} entries")

    def _tile(self, level: int, number: int, width: int) -> bytes | None:
        name = TileName(level, number, width)
        for wanted in dict.fromkeys((name.path, TileName(level, number).path)):
            try:
                return self._parts.get_now(f"{PUBLIC_LEDGER}{wanted}", TILE_BYTES)
            except PartMissingError:
                continue
        return None

    def _inside(self, contents: Contents, manifest: Manifest) -> list[Step]:
        problem = self._root_problem(contents, manifest)
        if problem:
            contents.problems["ledger"].add(problem)
        steps = []
        for number, subject, name in _SUBJECTS:
            found = contents.problems[subject]
            if found.count:
                steps.append(failed(number, name, found.told()))
            elif subject == "evidence" and contents.undecided.count:
                steps.append(
                    failed(
                        number, name, contents.undecided.told(), SubIndication.NO_POE, Verdict.INDETERMINATE
                    )
                )
            else:
                detail = f"{contents.verified} verified in full" if subject == "evidence" else ""
                steps.append(Step(number, name, ok=True, detail=detail))
        return steps

    def _root_problem(self, contents: Contents, manifest: Manifest) -> str:
        """Return why the entries are not those of the public ledger; empty where they are."""
        if manifest.ledger.size == 0:
            return ""
        try:
            note = self._parts.get_now(f"{PUBLIC_LEDGER}checkpoint", MAX_NOTE)
            signed: Checkpoint = open_note(note, [NoteVerifier.parse(manifest.ledger.vkey)]).checkpoint
        except (NoteError, PartsError) as error:
            return str(error)
        if (signed.size, signed.root) != (manifest.ledger.size, contents.root):
            return "the entries are not those of the public ledger"
        return ""
