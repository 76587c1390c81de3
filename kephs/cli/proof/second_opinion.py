"""``kephs verify --second-opinion``: what programs that strangers use say about the same signatures.

openssl (cms, ts), xmlsec1 and pyHanko are asked where they are installed, each in a process of its own with
a time limit and no network, over private temporary files. They look at signature, digests and path alone:
roles, byte identity, wrapping and content are our own verifier's. So what they refuse undoes a pass of ours,
and what they accept undoes no refusal. Nothing is shown to them that is not of the one shape we read.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from tempfile import TemporaryDirectory
from typing import Final

from evidence.asn1.der import DerError
from evidence.bundle.making import MANIFEST, MANIFEST_SIGNATURE
from evidence.bundle.zip_store import Archive, ArchiveError, read_archive
from evidence.cms.signed_data import SIGNATURE_TIME_STAMP, parse_signed_data
from evidence.mail.kep_message import KepMessage, KepMessageError, parse_kep_message
from evidence.mail.mime import Range
from evidence.ports import ByteSource
from evidence.report import Report, Step, SubIndication, Verdict, conclude
from evidence.stamps.ers import MAX_RECORD, ErsError, read_record
from evidence.stamps.timestamps import read_token
from evidence.verify.files import EVIDENCE_ENDING, RECORD_ENDING, Beside, Kind, detect, with_crlf
from evidence.verify.message import match_records
from evidence.x509.certificates import CertificateFacts
from evidence.x509.chain import TrustStore
from evidence.xades.check import open_signature
from evidence.xml.canonical import XadesError
from evidence.xml.reader import XML_SIZE_MAX, EvidenceFormatError

TIME_LIMIT: Final = 60
"""Seconds one program may take for one signature."""
CONTENT_MAX: Final = 512 << 20
"""Signed content longer than this is not copied for others to look at."""
ASKED_MAX: Final = 200
"""Questions about one file at most."""
PIECE: Final = 1 << 20
BROKE_DOWN: Final = 70
"""Exit status of the child that asks pyHanko where it cannot: another edition of it, for instance."""
OPENSSL: Final = "openssl"
XMLSEC1: Final = "xmlsec1"
PYHANKO: Final = "pyhanko"
_READING: Final = (
    XadesError, EvidenceFormatError, ErsError, DerError, KepMessageError, ArchiveError, UnicodeDecodeError
)  # fmt: skip
_CHILD: Final = "kephs.cli.proof.pyhanko_child"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one tool says about one signature; ``accepted`` is None where it could not be asked."""

    tool: str
    about: str
    accepted: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs found on this machine: their paths, None where missing."""

    openssl: str | None
    xmlsec1: str | None
    pyhanko: str | None
    time_limit: float = TIME_LIMIT

    @classmethod
    def installed(cls) -> "Tools":
        """Look for them; pyHanko runs in this interpreter's environment, in a process of its own."""
        from importlib.util import find_spec

        python = sys.executable if find_spec("pyhanko") is not None else None
        return cls(shutil.which(OPENSSL), shutil.which(XMLSEC1), python)

    def named(self) -> Iterator[tuple[str, str | None]]:
        """Yield each tool's name and path."""
        yield from ((OPENSSL, self.openssl), (XMLSEC1, self.xmlsec1), (PYHANKO, self.pyhanko))


def second_opinion(
    source: ByteSource,
    report: Report,
    trust: TrustStore,
    at: datetime,
    *,
    beside: Beside = lambda _: None,
    tools: Tools | None = None,
) -> Report:
    """Return the report with the others' opinions as a part; a pass they do not share is undone.

    Args:
        source: what was verified.
        report: what we found.
        trust: the same roots.
        at: the same time; signatures with a proven time are judged for that time.
        beside: gives files of the same name, as for `evidence.verify.files.verify_source`.
        tools: the programs; those installed where left out.

    Raises:
        OSError: temporary files cannot be written.
    """
    tools = Tools.installed() if tools is None else tools
    with TemporaryDirectory(prefix="kephs-") as folder:
        panel = _Panel(tools, Path(folder), trust, at)
        with suppress(*_READING):  # our own report says what is wrong with the form
            _ask(panel, source, beside)
    return _joined(report, panel, at)


def sender_second_opinion(
    p7s: bytes, content: ByteSource | None, report: Report, trust: TrustStore, at: datetime,
    *, tools: Tools | None = None,
) -> Report:  # fmt: skip
    """Return the report on a person's signature with what openssl and pyHanko say about it.

    They see signature, digest, path and time stamps, not what makes a signature qualified; pyHanko is asked
    about signatures of one signer alone, as it reads no others.

    Args:
        p7s: the signature, DER.
        content: what it signs; None: inside.
        report: what we found.
        trust: the same roots.
        at: the time it was judged for.
        tools: the programs; those installed where left out.

    Raises:
        OSError: temporary files cannot be written.
    """
    tools = Tools.installed() if tools is None else tools
    with TemporaryDirectory(prefix="kephs-") as folder:
        panel = _Panel(tools, Path(folder), trust, at)
        with suppress(*_READING):
            panel.cms(p7s, content, None if content is None else Range(0, content.size), "signature")
    return _joined(report, panel, at)


def _joined(report: Report, panel: "_Panel", at: datetime) -> Report:
    steps = [
        Step(f"S0.{number}", name, ok=None, detail="not installed: not asked")
        for number, (name, path) in enumerate(panel.tools.named(), 1)
        if path is None
    ]
    steps += [_compared(number, one, report) for number, one in enumerate(panel.opinions, 1)]
    part = conclude("second opinion", steps, at)
    if part.passed:
        asked = sorted({one.tool for one in panel.opinions if one.accepted is not None})
        word = "agreed" if report.passed else "asked"
        detail = f"{word}: {', '.join(asked)}" if asked else "nobody could be asked"
        step = Step("S", "second opinion", ok=True if asked and report.passed else None, detail=detail)
        return replace(report, steps=(*report.steps, step), parts=(*report.parts, part))
    first = part.failing_step
    step = Step(
        "S", "second opinion", ok=False, detail=f"{first.name}: {first.detail}" if first else "",
        sub_indication=SubIndication.GENERIC, verdict=Verdict.INDETERMINATE,
    )  # fmt: skip
    return replace(
        report, verdict=Verdict.INDETERMINATE, sub_indication=SubIndication.GENERIC,
        steps=(*report.steps, step), parts=(*report.parts, part),
    )  # fmt: skip


def _compared(number: int, opinion: Opinion, report: Report) -> Step:
    name = f"{opinion.tool}: {opinion.about}"
    if opinion.accepted is None:
        return Step(f"S{number}", name, ok=None, detail=opinion.detail)
    if opinion.accepted == report.passed:
        return Step(f"S{number}", name, ok=True, detail="accepts" if opinion.accepted else "refuses too")
    if opinion.accepted:  # they see less than we do
        detail = "accepts the signature alone; what we refuse stands above"
        return Step(f"S{number}", name, ok=None, detail=detail)
    return Step(
        f"S{number}", name, ok=False, detail=f"refuses what we accept: {opinion.detail}",
        sub_indication=SubIndication.GENERIC, verdict=Verdict.INDETERMINATE,
    )  # fmt: skip


# --------------------------------------------------------------------------- what is asked


def _ask(panel: "_Panel", source: ByteSource, beside: Beside) -> None:
    kind = detect(source)
    if kind is Kind.EVIDENCE:
        record = beside(RECORD_ENDING)
        ers = None if record is None else record.read(0, MAX_RECORD + 1)
        _ask_evidence(panel, source.read(0, XML_SIZE_MAX + 1), ers, "evidence")
    elif kind is Kind.RECORD:
        data = beside(EVIDENCE_ENDING)
        if data is not None:
            _ask_record(panel, source.read(0, MAX_RECORD + 1), "evidence record")
    elif kind is Kind.MESSAGE:
        _ask_message(panel, with_crlf(source), "KEP message")
    elif kind is Kind.BUNDLE:
        _ask_bundle(panel, read_archive(source))


def _ask_evidence(panel: "_Panel", xml: bytes, ers: bytes | None, about: str) -> None:
    signature = open_signature(xml)  # the one strict shape: no remote references, no odd transforms
    times = [read_token(token).info.gen_time for token in signature.tokens]
    if ers is not None:
        times.append(read_token(read_record(ers).chains[0][0].token).info.gen_time)
    panel.xml(xml, min(times, default=panel.at), about)
    for token in signature.tokens:
        panel.token(token, f"{about}: time stamp", signature.stamped)
    if ers is not None:
        _ask_record(panel, ers, f"{about}: evidence record")


def _ask_record(panel: "_Panel", ers: bytes, about: str) -> None:
    for chain in read_record(ers).chains:
        for stamp in chain:
            panel.token(stamp.token, about)


def _ask_message(panel: "_Panel", source: ByteSource, about: str) -> None:
    message: KepMessage = parse_kep_message(source)
    panel.cms(message.p7s, source, message.signed_entity, about)
    matched, _ = match_records(message.evidences, message.extensions)
    for file, ers in zip(message.evidences, matched, strict=True):
        with suppress(*_READING):
            _ask_evidence(panel, file.content, ers, file.name or "evidence")


def _ask_bundle(panel: "_Panel", archive: Archive) -> None:
    members = {member.name: member for member in archive.members}

    def content(name: str, limit: int) -> bytes:
        member = archive.open(members[name])
        return member.read(0, min(member.size, limit + 1))

    if MANIFEST in members and MANIFEST_SIGNATURE in members:
        manifest = archive.open(members[MANIFEST])
        p7s = content(MANIFEST_SIGNATURE, XML_SIZE_MAX)
        with suppress(*_READING):
            panel.cms(p7s, manifest, Range(0, manifest.size), MANIFEST)
    for name in sorted(members):
        if not name.endswith(EVIDENCE_ENDING):
            continue
        record = name.removesuffix(EVIDENCE_ENDING) + RECORD_ENDING
        ers = content(record, MAX_RECORD) if record in members else None
        with suppress(*_READING):
            _ask_evidence(panel, content(name, XML_SIZE_MAX), ers, name)


class _Panel:
    """Asks every tool and keeps the answers."""

    def __init__(self, tools: Tools, folder: Path, trust: TrustStore, at: datetime) -> None:
        self.tools, self.at, self.opinions = tools, at, list[Opinion]()
        self._folder, self._count = folder, 0
        self._roots = self._certificates("root", trust.roots)
        self._helpers = self._certificates("helper", trust.intermediates)
        self._root_file = self._file("roots.pem", _pem(trust.roots))
        # openssl builds paths of CMS signers from their own certificates and this file alone; without
        # -partial_chain what is not self-signed is no anchor in it
        helpers = [facts for facts in trust.intermediates if not facts.self_issued]
        self._anchor_file = self._file("anchors.pem", _pem([*trust.roots, *helpers]))

    def xml(self, xml: bytes, at: datetime, about: str) -> None:
        """Ask about an XML signature of our one shape."""
        if self.tools.xmlsec1 is None or not self._may_ask():
            return
        options = [word for path in self._roots for word in ("--trusted-pem", path)]
        options += [word for path in self._helpers for word in ("--untrusted-pem", path)]
        time = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._run(
            XMLSEC1, about, self.tools.xmlsec1, "--verify", "--enabled-reference-uris", "empty,same-doc",
            "--enabled-retrieval-method-uris", "empty", "--enabled-key-data", "x509",
            "--id-attr:Id", "SignedProperties", "--verification-time", time,
            *options, self._file("document.xml", xml),
        )  # fmt: skip

    def token(self, token: bytes, about: str, stamped: bytes | None = None) -> None:
        """Ask about a time stamp: over these bytes, or over the imprint we led to it."""
        info, file = read_token(token).info, self._file("token.der", token)
        at = str(int(info.gen_time.timestamp()))
        if self.tools.openssl is not None and self._may_ask():
            what: list[str | Path] = ["-digest", info.imprint.hex()]
            if stamped is not None:
                what = ["-data", self._file("stamped", stamped)]
            self._run(
                OPENSSL, about, self.tools.openssl, "ts", "-verify", "-token_in", "-in", file, *what,
                "-CAfile", self._root_file, *self._untrusted(), "-attime", at,
            )  # fmt: skip
        if self.tools.pyhanko is not None and self._may_ask():
            self._pyhanko(about, "stamp", info.gen_time, file, self._file("imprint", info.imprint))

    def cms(self, p7s: bytes, source: ByteSource | None, part: Range | None, about: str) -> None:
        """Ask about a CMS signature, detached or (no source) with its content, and about its time stamps."""
        signers = parse_signed_data(p7s, max_size=max(len(p7s), 1)).signers
        signer = signers[0]
        tokens = [node.whole for node in signer.unsigned_values(SIGNATURE_TIME_STAMP)]
        at = min((read_token(token).info.gen_time for token in tokens), default=self.at)
        if max(0 if part is None else part.length, len(p7s)) > CONTENT_MAX:
            self.opinions.append(Opinion("all", about, None, "too large to be copied: not asked"))
            return
        file, content = self._file("signature.der", p7s), self._folder / "content"
        beside: list[str | Path] = []
        if source is not None and part is not None:
            beside = ["-content", self._copied(source, part)]
        if self.tools.openssl is not None and self._may_ask():
            self._run(
                OPENSSL, about, self.tools.openssl, "cms", "-verify", "-cades", "-purpose", "any", "-binary",
                "-inform", "DER", "-in", file, *beside, "-CAfile", self._anchor_file,
                "-attime", str(int(at.timestamp())), "-out", self._folder / "verified",
            )  # fmt: skip
        if self.tools.pyhanko is not None and len(signers) > 1:
            self.opinions.append(Opinion(PYHANKO, about, None, "several signers: it reads one"))
        elif self.tools.pyhanko is not None and self._may_ask():
            self._pyhanko(about, "cms" if beside else "opaque", at, file, content)
        for token in tokens:
            self.token(token, f"{about}: time stamp", signer.signature)

    def _pyhanko(self, about: str, what: str, at: datetime, *files: Path) -> None:
        assert self.tools.pyhanko is not None
        self._run(
            PYHANKO, about, self.tools.pyhanko, "-I", "-m", _CHILD, what, at.isoformat(), self._root_file,
            self._file("helpers.pem", b"".join(path.read_bytes() for path in self._helpers)), *files,
        )  # fmt: skip

    def _may_ask(self) -> bool:
        if len(self.opinions) >= ASKED_MAX:
            return False
        if len(self.opinions) == ASKED_MAX - 1:
            self.opinions.append(Opinion("all", "the rest", None, f"not asked: after {ASKED_MAX} questions"))
            return False
        return True

    def _run(self, tool: str, about: str, *command: str | Path) -> None:
        """Run a program; what it says last on standard error is kept where it refuses."""
        try:
            done = subprocess.run(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, timeout=self.tools.time_limit, check=False, cwd=self._folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(self._folder)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.opinions.append(Opinion(tool, about, None, f"no answer within {self.tools.time_limit} s"))
        except OSError as error:
            self.opinions.append(Opinion(tool, about, None, f"cannot be run: {error.strerror}"))
        else:
            accepted = {0: True, BROKE_DOWN: None}.get(done.returncode, False)
            self.opinions.append(Opinion(tool, about, accepted, "" if accepted else _last_line(done.stderr)))

    def _untrusted(self) -> Sequence[str | Path]:
        if not self._helpers:
            return ()
        return ("-untrusted", self._file("helpers.pem", b"".join(p.read_bytes() for p in self._helpers)))

    def _certificates(self, name: str, listed: Sequence[CertificateFacts]) -> list[Path]:
        return [self._file(f"{name}{n}.pem", _pem([facts])) for n, facts in enumerate(listed)]

    def _file(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path

    def _copied(self, source: ByteSource, part: Range) -> Path:
        path, at = self._folder / "content", part.start
        with path.open("wb") as out:
            while at < part.end:
                piece = source.read(at, min(PIECE, part.end - at))
                if not piece:
                    break
                out.write(piece)
                at += len(piece)
        return path


def _pem(certificates: Sequence[CertificateFacts]) -> bytes:
    return "".join(DER_cert_to_PEM_cert(facts.der) for facts in certificates).encode("ascii")


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text[-4096:].decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:200]
