"""Signed notes, checkpoints of a ledger, and the cosignatures of witnesses.

The formats are C2SP's signed-note, tlog-checkpoint and tlog-cosignature; what a witness must check stands
in `evidence.ledger.witness_rules`. A note is text, an empty line and signature lines, a dash (U+2014) before
each: key name and base64(key id || signature). A checkpoint is a note whose text is three lines: origin,
number of leaves, base64 of the root. The log signs that text with Ed25519; a witness signs it together
with the time at which it was the newest one it knew. Ed25519 is fine here: these are no legal signatures
(signing §5).

Parsing is strict: what is accepted, encoded again, is the same bytes. Signatures of unknown keys are
ignored; one bad signature of a known key refuses the note; so does the lack of the log's own.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from evidence.ledger.merkle import HASH_SIZE, MAX_SIZE

MAX_NOTE: Final = 128 * 1024
"""Octets of the longest note that is read: 16 post-quantum signatures fit in."""
MAX_SIGNATURES: Final = 100
MAX_NAME: Final = 255
_DASH: Final = "\N{EM DASH} "
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class NoteError(Exception):
    """Not a note, not a checkpoint, not a key: the bytes do not have the form."""


class NoteSignatureError(NoteError):
    """A known key did not make its signature, or the log's own is missing."""


class UnsignedNoteError(NoteSignatureError):
    """The log's own signature, or every known witness's, is missing; none that is there is wrong."""


class KeyKind(IntEnum):
    """What a key signs: the type byte of its identifier."""

    NOTE = 0x01
    """Ed25519 over the text: a log's key."""
    COSIGNATURE = 0x04
    """Ed25519 over time and text (cosignature/v1): a witness's key."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, verified or not."""

    name: str
    key_id: bytes  # 4 octets
    signature: bytes

    @property
    def line(self) -> bytes:
        """Return the line with its end."""
        return f"{_DASH}{self.name} {_b64(self.key_id + self.signature)}\n".encode()


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures; nothing is verified."""

    text: bytes  # with its last newline
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return b"".join((self.text, b"\n", *(signature.line for signature in self.signatures)))

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """Read a note.

        Raises:
            NoteError: it is none, is longer than `MAX_NOTE`, or has more than `MAX_SIGNATURES` signatures.
        """
        content = _text(data)
        text, gap, lines = content.rpartition("\n\n")
        if not gap:
            raise NoteError("no empty line before the signatures")
        return cls((text + "\n").encode(), _signatures(lines))


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key under a name: what a stranger must have got from elsewhere."""

    name: str
    public_key: bytes  # 32 octets
    kind: KeyKind = KeyKind.NOTE

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != 32:
            raise NoteError("an Ed25519 public key has 32 octets")

    @property
    def key_id(self) -> bytes:
        """Return the 4 octets by which signatures name the key."""
        return sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.public_key).digest()[:4]

    @property
    def vkey(self) -> str:
        """Return the text form: name, key id in hex, base64 of type and key, with ``+`` between."""
        return f"{self.name}+{self.key_id.hex()}+{_b64(bytes((self.kind,)) + self.public_key)}"

    @classmethod
    def parse(cls, vkey: str) -> "NoteVerifier":
        """Read the text form.

        Raises:
            NoteError: not one, an unknown type of key, or the key id does not belong to the key.
        """
        name, key_id, kind, key = _read_key(vkey)
        found = cls(name, key, kind)
        if found.key_id != key_id:
            raise NoteError("the key id does not belong to the key")
        return found

    def check(self, text: bytes, signature: bytes) -> "Signed":
        """Verify a signature over a note's text.

        Raises:
            NoteSignatureError: it does not hold.
        """
        at, message = None, text
        if self.kind is KeyKind.COSIGNATURE:
            at = _time(signature)
            message, signature = _cosigned(text, _seconds(at)), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise NoteSignatureError(f"the signature of {self.name} does not hold") from None
        return Signed(self, at)


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified signature: whose, and, for a witness, when."""

    verifier: NoteVerifier
    at: datetime | None = None  # UTC, whole seconds; None: a log's signature, which carries no time


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key under a name."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)
    kind: KeyKind = KeyKind.NOTE

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def verifier(self) -> NoteVerifier:
        """Return the public half."""
        return NoteVerifier(self.name, self.key.public_key().public_bytes_raw(), self.kind)

    @property
    def skey(self) -> str:
        """Return the secret text form: ``PRIVATE+KEY+`` and the seed in the form of a vkey."""
        seed = bytes((self.kind,)) + self.key.private_bytes_raw()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{_b64(seed)}"

    @classmethod
    def parse(cls, skey: str) -> "NoteSigner":
        """Read the secret text form.

        Raises:
            NoteError: not one, or the key id does not belong to the key. The text is never repeated.
        """
        if not skey.startswith("PRIVATE+KEY+"):
            raise NoteError("not a private key")
        name, key_id, kind, seed = _read_key(skey.removeprefix("PRIVATE+KEY+"))
        found = cls(name, Ed25519PrivateKey.from_private_bytes(seed), kind)
        if found.verifier.key_id != key_id:
            raise NoteError("the key id does not belong to the key")
        return found

    def sign(self, text: bytes, at: datetime | None = None) -> NoteSignature:
        """Sign a note's text; a witness's key needs the time, a log's key takes none.

        Raises:
            ValueError: the time is missing, has no zone, is before 1970, or is not asked for.
        """
        if (self.kind is KeyKind.COSIGNATURE) != (at is not None):
            raise ValueError("cosignatures have a time, others have none")
        if at is None:
            return NoteSignature(self.name, self.verifier.key_id, self.key.sign(text))
        seconds = _seconds(at)
        signature = seconds.to_bytes(8, "big") + self.key.sign(_cosigned(text, seconds))
        return NoteSignature(self.name, self.verifier.key_id, signature)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of its tree at one size."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()  # further lines; ours have none

    def encode(self) -> bytes:
        """Return the note's text.

        Raises:
            NoteError: it could not be read back.
        """
        lines = (self.origin, str(self.size), _b64(self.root), *self.extensions)
        text = "".join(f"{line}\n" for line in lines).encode()
        if Checkpoint.parse(text) != self:
            raise NoteError("not a checkpoint")
        return text

    @classmethod
    def parse(cls, text: bytes) -> "Checkpoint":
        """Read a note's text as a checkpoint.

        Raises:
            NoteError: it is none.
        """
        lines = _text(text).removesuffix("\n").split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError("a checkpoint has three lines at least, none of them empty")
        origin, size, root, *extensions = lines
        return cls(origin, read_size(size), read_hash(root), tuple(extensions))


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A checkpoint whose log's signature, and those of known witnesses, hold."""

    note: Note
    checkpoint: Checkpoint
    signed: tuple[Signed, ...]  # the log's first

    @property
    def cosigned(self) -> dict[str, datetime]:
        """Return which known witnesses vouch for it: name and last time."""
        found: dict[str, datetime] = {}
        for one in self.signed:
            if one.at is not None:
                found[one.verifier.name] = max(one.at, found.get(one.verifier.name, one.at))
        return found


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Return the checkpoint's note with the log's signature.

    Raises:
        NoteError: the checkpoint cannot be written, or the key is not the log's: a log signs under its
            origin, so that its signature is found by that name.
    """
    if signer.kind is not KeyKind.NOTE or signer.name != checkpoint.origin:
        raise NoteError("a log's key bears its origin as its name")
    text = checkpoint.encode()
    return Note(text, (signer.sign(text),)).encode()


def open_note(note: bytes, verifiers: Iterable[NoteVerifier]) -> OpenedNote:
    """Read a checkpoint and verify the signatures of known keys.

    Args:
        note: the bytes.
        verifiers: the log's key, which bears the origin as its name, and perhaps witnesses' keys.

    Raises:
        NoteSignatureError: a known key's signature does not hold.
        UnsignedNoteError: the log's own is missing.
        NoteError: not a checkpoint.
    """
    parsed = Note.parse(note)
    checkpoint = Checkpoint.parse(parsed.text)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed = [
        known[key].check(parsed.text, one.signature)
        for one in parsed.signatures
        if (key := (one.name, one.key_id)) in known
    ]
    own = [one for one in signed if _is_log(one.verifier, checkpoint)]
    if not own:
        raise UnsignedNoteError("no signature of the log itself by a known key")
    return OpenedNote(parsed, checkpoint, tuple(own + [one for one in signed if one not in own]))


def cosign(note: bytes, signer: NoteSigner, at: datetime) -> NoteSignature:
    """Return a witness's signature on a checkpoint it has judged (`witness_rules.judge`).

    Raises:
        NoteError: not a checkpoint.
        ValueError: not a witness's key, or a time without zone.
    """
    text = Note.parse(note).text
    Checkpoint.parse(text)
    return signer.sign(text, at)


def add_cosignatures(
    note: bytes, answer: bytes, witnesses: Iterable[NoteVerifier], *, latest: datetime = _LATEST
) -> bytes:
    """Return the note with the cosignatures of a witness's answer; a newer one replaces that key's older.

    Args:
        note: our checkpoint.
        answer: signature lines.
        witnesses: known witnesses' keys; lines of others are left out.
        latest: cosignatures with a later time are refused.

    Raises:
        NoteSignatureError: a known witness's signature does not hold or is of the future.
        UnsignedNoteError: none of a known witness is there.
        NoteError: note or answer is malformed.
    """
    parsed = Note.parse(note)
    known = {(v.name, v.key_id): v for v in witnesses if v.kind is KeyKind.COSIGNATURE}
    fresh: dict[tuple[str, bytes], NoteSignature] = {}
    for one in _signatures(_text(answer)):
        verifier = known.get((one.name, one.key_id))
        if verifier is None:
            continue
        at = verifier.check(parsed.text, one.signature).at
        if at is None or at > latest:
            raise NoteSignatureError(f"the cosignature of {one.name} is of the future")
        fresh[one.name, one.key_id] = one
    if not fresh:
        raise UnsignedNoteError("no cosignature of a known witness")
    kept = tuple(one for one in parsed.signatures if (one.name, one.key_id) not in fresh)
    return replace(parsed, signatures=kept + tuple(fresh.values())).encode()


def read_size(text: str) -> int:
    """Read a number of leaves: decimal, without leading zeros.

    Raises:
        NoteError: not one, or more than `evidence.ledger.merkle.MAX_SIZE`.
    """
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteError("not the size of a tree")
    return int(text)


def read_hash(text: str) -> bytes:
    """Read a hash of 32 octets in base64.

    Raises:
        NoteError: not one.
    """
    found = read_base64(text)
    if len(found) != HASH_SIZE:
        raise NoteError("a hash has 32 octets")
    return found


def read_base64(text: str) -> bytes:
    """Read base64 in its one canonical form: padded, no other characters, no stray bits.

    Raises:
        NoteError: any other form.
    """
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("not base64") from None
    if _b64(found) != text:
        raise NoteError("not canonical base64")
    return found


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(data: bytes) -> str:
    """Return what may stand in a note: UTF-8 lines without control characters, the last one ended."""
    if len(data) > MAX_NOTE:
        raise NoteError("too long for a note")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NoteError("a note is UTF-8") from None
    if not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise NoteError("a note ends its lines with a newline and has no control characters")
    return text


def _signatures(text: str) -> tuple[NoteSignature, ...]:
    lines = text.removesuffix("\n").split("\n") if text else []
    if not 0 < len(lines) <= MAX_SIGNATURES:
        raise NoteError(f"a note has 1 to {MAX_SIGNATURES} signatures")
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> NoteSignature:
    name, gap, value = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not gap:
        raise NoteError("not a signature line")
    _check_name(name)
    data = read_base64(value)
    if len(data) < 5:
        raise NoteError("a signature is longer than its key id")
    return NoteSignature(name, data[:4], data[4:])


def _read_key(text: str) -> tuple[str, bytes, KeyKind, bytes]:
    parts = text.split("+", 2) if len(text) <= 2 * MAX_NAME else []
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
        raise NoteError("a key is written name+id+base64")
    data = read_base64(parts[2])
    if len(data) != 33 or data[0] not in set(KeyKind):
        raise NoteError("not an Ed25519 key for notes or cosignatures")
    return parts[0], bytes.fromhex(parts[1]), KeyKind(data[0]), data[1:]


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME or any(char.isspace() or char < " " or char == "+" for char in name):
        raise NoteError("a key's name has no spaces, control characters or plus signs")
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise NoteError("a key's name is Unicode text")


def _is_log(verifier: NoteVerifier, checkpoint: Checkpoint) -> bool:
    return verifier.kind is KeyKind.NOTE and verifier.name == checkpoint.origin


def _seconds(at: datetime) -> int:
    """Return whole seconds since 1970; cosignatures know no others, and zero means "no time"."""
    if at.tzinfo is None:
        raise ValueError("cosignature times are UTC")
    seconds = (at - _EPOCH) // timedelta(seconds=1)
    if seconds < 1:
        raise ValueError("cosignature times are after 1970")
    return seconds


def _time(signature: bytes) -> datetime:
    seconds = int.from_bytes(signature[:8], "big")
    if len(signature) != 8 + 64 or not 0 < seconds <= _seconds(_LATEST):
        raise NoteSignatureError("not a cosignature with its time")
    return _EPOCH + timedelta(seconds=seconds)


def _cosigned(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % seconds + text
