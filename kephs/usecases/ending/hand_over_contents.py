"""What lies inside a hand-over, followed file by file: entries, evidence, process record, content.

Files come by name, ascending, so the ledger's entries are known before the record that they anchor.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from directory.accounts import AccountState
from evidence.bundle.archive_object import ArchiveObjectError, ObjectKind, from_micros
from evidence.bundle.archive_read import judge_object, read_object
from evidence.bundle.hand_over import Manifest
from evidence.ledger.chain import GENESIS as LEDGER_GENESIS
from evidence.ledger.chain import LedgerEntry, check_run
from evidence.ledger.tiles import GrowingTree
from evidence.report import Verdict
from evidence.stamps.renewal import Round
from evidence.verify.evidence import check_evidence
from evidence.x509.chain import TrustStore
from evidence.x509.role import SealPolicy
from kephs.domain.audit_anchor import Anchored, RecordCheck, Statement, anchored_number, is_anchor_name
from kephs.usecases.archive.audit import read_process
from kephs.usecases.archive.preserve_object import RenewalObjectError, names_earlier, read_head, read_span
from kephs.usecases.ending.hand_over_packs import read_pack
from kephs.usecases.ending.hand_over_rows import read_lines
from kephs.usecases.proof.publish_ledger import entry_leaf

PROBLEMS_MAX: Final = 20
SAMPLE: Final = 1_000
"""So many evidences are verified in full, spread evenly; the digests of all are compared."""


@dataclass(slots=True)
class Problems:
    """What is wrong with one subject; the first few are named."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.named) < PROBLEMS_MAX:
            self.named.append(text)

    def told(self) -> str:
        """Return them as one text; empty where there are none."""
        more = self.count - len(self.named)
        return "; ".join(self.named) + (f"; and {more} more" if more > 0 else "")


_UNREADABLE: Final = (ArchiveObjectError, RenewalObjectError)
SUBJECTS: Final = ("ledger", "evidence", "record", "content", "rows", "counts")


class Contents:
    """Follows the files of one hand-over; blocking, so call it in a worker.

    Args:
        manifest: what it says of itself.
        trust: roots; empty: nothing can be believed, only compared.
        at: time of the check, UTC.
        policy: which certificates seal.
        sample: evidences verified in full.
    """

    def __init__(
        self, manifest: Manifest, trust: TrustStore, at: datetime, policy: SealPolicy, *, sample: int = SAMPLE
    ) -> None:
        self._manifest, self._trust, self._at, self._policy = manifest, trust, at, policy
        self.problems = {subject: Problems() for subject in SUBJECTS}
        self.undecided = Problems()
        self.verified = 0
        self.samples: list[tuple[int, bytes, bytes | None]] = []
        self._every = max(1, manifest.counts.get("entries", 0) // max(1, sample))
        self._counts: dict[str, int] = {}
        # SHA-256 of evidence, by ledger number: what came before its entry did, and the other way round.
        self._early: dict[int, bytes] = {}
        self._owed: dict[int, bytes] = {}
        self._last: LedgerEntry | None = None
        self._tree = GrowingTree()
        self._anchors: list[Anchored] = []
        self._record: RecordCheck | None = None
        self._wanted: set[bytes] = set()
        self._found: set[bytes] = set()
        self._last_message = ""
        self._round: Round | None = None
        self._heads: list[bytes] = []
        self._take: Mapping[str, Callable[[str, bytes], None]] = {
            "arsiv": self._object, "delil": self._tail, "defter": self._entries, "surec": self._records,
            "hesap": self._accounts, "kapali": self._closed, "ileti": self._messages, "posta": self._items,
            "icerik": self._pack, "guven": self._plain, "saklama": self._plain, "nokta": self._plain,
            "yabanci": self._plain,
        }  # fmt: skip

    @property
    def root(self) -> bytes:
        """Return the root of the tree over all entries."""
        return self._tree.root()

    def take(self, name: str, content: bytes) -> None:
        """Follow one file; what is wrong is noted."""
        folder = name.split("/", 1)[0]
        work = self._take.get(folder)
        if work is None:
            self._problem("rows", f"{name} belongs to nothing")
            return
        try:
            work(name, content)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, *_UNREADABLE) as error:
            self._problem(_SUBJECT_OF.get(folder, "rows"), f"{name}: {type(error).__name__}: {error}"[:300])

    def finish(self) -> None:
        """Compare the ends."""
        last = LEDGER_GENESIS if self._last is None else self._last.hash
        if last != self._manifest.ledger.last_hash or self._tree.size != self._manifest.ledger.size:
            self._problem("ledger", "the entries do not end where the manifest says")
        for number in sorted(self._owed):
            self._problem("evidence", f"the evidence of ledger entry {number} is missing")
        for number in sorted(self._early):
            self._problem("evidence", f"evidence {number} has no entry in the ledger")
        self._end_record()
        for digest in sorted(self._wanted - self._found):
            self._problem("content", f"content {digest.hex()} is missing")
        for subject in _COUNTED:
            stated, found = self._manifest.counts.get(subject, 0), self._counts.get(subject, 0)
            if stated != found:
                self._problem("counts", f"{subject}: the manifest says {stated}, there are {found}")

    # --- evidence and ledger ------------------------------------------------------------------

    def _object(self, name: str, content: bytes) -> None:
        self._count("objects", 1)
        if name.startswith(_RENEWALS):
            self._renewal(name, content)
            return
        one = read_object(content, name=name.removeprefix("arsiv/"))
        report = judge_object(one, self._trust, self._at, self._policy)
        if report.verdict is Verdict.FAILED:
            self._problem("evidence", f"{name}: its seal does not hold")
        elif not report.passed:
            self.undecided.add(f"{name}: its seal is not decided")
        if one.provider != self._manifest.by.domain:
            self._problem("evidence", f"{name} is of {one.provider}")
        if one.kind is ObjectKind.EVIDENCE:
            for item in one.evidences:
                if is_anchor_name(item.entry.evidence_id):
                    Statement.read(item.xml)  # its digest is the entry's, and the record's check meets it
                else:
                    self._evidence(item.entry.number, item.xml, item.ers)

    def _renewal(self, name: str, content: bytes) -> None:
        """Follow a round of renewal: heads by number, each naming the token before it, and their spans."""
        if "/" in name.removeprefix(_RENEWALS):
            read_span(content)
            return
        head = read_head(content, self._round)
        problem = head.round.problem()
        if problem is not None or not names_earlier(head.manifest, self._heads):
            self._problem("evidence", f"{name}: {problem or 'it names other rounds before it'}")
        self._round = head.round
        self._heads.append(content)

    def _tail(self, name: str, content: bytes) -> None:
        del name
        for row in read_lines(content):
            ers = None if row["ers"] is None else b64decode(row["ers"], validate=True)
            self._evidence(int(row["number"]), b64decode(row["xml"], validate=True), ers)

    def _evidence(self, number: int, xml: bytes, ers: bytes | None) -> None:
        digest = sha256(xml).digest()
        if self._owed.get(number) == digest:
            del self._owed[number]
        elif self._last is None and self._early.setdefault(number, digest) == digest:
            pass  # its entry follows
        else:
            self._problem("evidence", f"evidence {number} is not what the ledger entered")
        if number % self._every == 0 or number == 1:
            self.samples.append((number, xml, ers))

    def verify(self, number: int, xml: bytes, ers: bytes | None) -> None:
        """Verify an evidence in full, with its record as all rounds of renewal left it."""
        check = check_evidence(xml, self._trust, self._at, self._policy, subject=str(number), ers=ers)
        self.verified += 1
        if check.report.verdict is Verdict.FAILED:
            step = check.report.failing_step
            self._problem("evidence", f"evidence {number}: {step.detail if step else 'does not verify'}")
        elif not check.passed:
            step = check.report.failing_step
            self.undecided.add(f"evidence {number}: {step.detail if step else 'undecided'}")

    def _entries(self, name: str, content: bytes) -> None:
        del name
        for row in read_lines(content):
            entry = read_entry(row)
            broken = check_run([entry], after=self._last)
            if broken is not None:
                self._problem("ledger", f"entry {broken.number}: {broken.cause}")
            self._last = entry
            self._tree.append([entry_leaf(entry)])
            self._count("entries", 1)
            self._owe(entry)

    def _owe(self, entry: LedgerEntry) -> None:
        """Wait for the evidence of an entry, or compare it with what came; anchors have none."""
        number = anchored_number(entry.evidence_id)
        if number is not None:
            self._anchors.append(Anchored(number, entry.evidence_sha256, entry.at, entry.number))
            return
        came = self._early.pop(entry.number, None)
        if came is None:
            self._owed[entry.number] = entry.evidence_sha256
        elif came != entry.evidence_sha256:
            self._problem("evidence", f"evidence {entry.number} is not what the ledger entered")

    # --- the process record -------------------------------------------------------------------

    def _records(self, name: str, content: bytes) -> None:
        del name
        if self._record is None:
            self._record = RecordCheck(self._anchors)
        if content and not content.endswith(b"\n"):
            raise ValueError("the file ends early")
        for line in content.split(b"\n")[:-1]:
            for broken in self._record.take(read_process(line)):
                self._problem("record", f"entry {broken.number}: {broken.cause}")
            self._count("records", 1)

    def _end_record(self) -> None:
        record = RecordCheck(self._anchors) if self._record is None else self._record
        for broken in record.finish():
            self._problem("record", f"entry {broken.number}: {broken.cause}")
        if (record.number, record.digest) != (self._manifest.record.number, self._manifest.record.digest):
            self._problem("record", "it does not end where the manifest says")

    # --- rows and content ---------------------------------------------------------------------

    def _accounts(self, name: str, content: bytes) -> None:
        del name
        for row in read_lines(content):
            read_account(row)
            self._count("accounts", 1)
            self._count("operators", len(row["operators"]))

    def _closed(self, name: str, content: bytes) -> None:
        del name
        for row in read_lines(content):
            _text(row["address"])
            from_micros(row["since"])
            self._count("closed_addresses", 1)

    def _messages(self, name: str, content: bytes) -> None:
        for row in read_lines(content):
            message_id = _text(row["message"]["message_id"])
            if message_id <= self._last_message:
                self._problem("rows", f"{name}: {message_id[:80]} is there twice or out of order")
            self._last_message = message_id
            self._wanted |= {bytes.fromhex(digest) for digest in row["kept"]}
            self._count("messages", 1)

    def _items(self, name: str, content: bytes) -> None:
        del name
        for row in read_lines(content):
            self._wanted.add(bytes.fromhex(row["sha256"]))
            self._count("items", 1)

    def _pack(self, name: str, content: bytes) -> None:
        del name
        found = read_pack(content)
        self._found |= found.keys()
        self._count("contents", len(found))

    def _plain(self, name: str, content: bytes) -> None:
        subject = _PLAIN[name.split("/", 1)[0]]
        self._count(subject, sum(1 for _ in read_lines(content)))

    def _problem(self, subject: str, text: str) -> None:
        self.problems[subject].add(text)

    def _count(self, subject: str, more: int) -> None:
        self._counts[subject] = self._counts.get(subject, 0) + more


_PLAIN: Final[Mapping[str, str]] = MappingProxyType(
    {"guven": "anchors", "saklama": "holds", "nokta": "checkpoints", "yabanci": "foreign_archives"}
)
_RENEWALS: Final = "arsiv/yenileme/"
_COUNTED: Final = (
    "accounts", "anchors", "checkpoints", "closed_addresses", "contents", "entries", "foreign_archives",
    "holds", "items", "messages", "objects", "operators", "records",
)  # fmt: skip
_SUBJECT_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "arsiv": "evidence", "delil": "evidence", "defter": "ledger", "surec": "record", "icerik": "content",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HandedAccount:
    """What an importer needs of an account."""

    account_id: str
    address: str
    state: AccountState
    since: datetime
    holder_name: str


def read_account(row: Mapping[str, Any]) -> HandedAccount:
    """Return the account of a line.

    Raises:
        KeyError, TypeError, ValueError: not a line of accounts.
    """
    account = row["account"]
    return HandedAccount(
        _text(account["account_id"]), _text(account["address"]), AccountState(account["state"]),
        from_micros(_whole(account["state_since"])), _text(account["holder_name"]),
    )  # fmt: skip


def read_entry(row: Mapping[str, Any]) -> LedgerEntry:
    """Return the ledger entry of a line.

    Raises:
        KeyError, TypeError, ValueError: not a line of entries.
    """
    return LedgerEntry(
        _whole(row["number"]), bytes.fromhex(row["previous"]), _text(row["evidence_id"]),
        bytes.fromhex(row["evidence_sha256"]), from_micros(_whole(row["at"])), bytes.fromhex(row["hash"]),
        bytes.fromhex(row["salt"]),
    )  # fmt: skip


def _whole(value: Any) -> int:
    if type(value) is not int:  # True is an int, too
        raise TypeError("no whole number")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value
