"""Reading the form of a message: header, recipients, sizes, the place of the signature. Plain functions.

spec: R-01, KEP-MS-01, KEP-MS-07, D15.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from directory.addresses import AddressError, KepAddress
from directory.providers import ProviderRegister, Served
from evidence.asn1.der import DerError
from evidence.mail.headers import AddressSyntaxError, Mailbox, addresses, decode_text, unfold
from evidence.mail.mime import MimeLimitError, Part, decoded_size, scan
from evidence.mail.smime import SmimeError, SmimeLimits, locate, read_signed
from evidence.nes.shown import compare_headers
from evidence.ports import ByteSource, BytesSource
from kephs.domain.messages import Recipient, Role
from kephs.domain.policy import Destination, FormFacts, RecipientFacts
from kephs.usecases.submission.results import Incoming

_ONCE: Final = frozenset(
    {
        "from", "to", "cc", "subject", "date", "message-id",
        "mime-version", "content-type", "content-transfer-encoding",
    }
)  # fmt: skip
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})  # spec: RFC2045#6.4, all a multipart may have
_DESTINATIONS: Final[Mapping[Served, Destination]] = MappingProxyType(
    {
        Served.HERE: Destination.HERE,
        Served.PEER: Destination.PEER,
        Served.NOWHERE: Destination.UNKNOWN_PROVIDER,
    }
)

_MEMO_MOST: Final = 512  # octets of an address field
_ADDRESS_IN_NAME: Final = re.compile(r"[^\s\"'(),:;<>@\\]+@[^\s\"'(),:;<>@\\]+")


@dataclass(frozen=True, slots=True)
class Form:
    """What a message says of itself. ``root`` is None where it cannot be parsed."""

    root: Part | None
    facts: FormFacts
    subject: str
    user_message_id: str | None
    recipients: tuple[Recipient, ...]


def read_form(
    incoming: Incoming, source: ByteSource, register: ProviderRegister, limits: SmimeLimits
) -> Form:
    """Read all that policy needs except the signature's verdict. Never raises for bad input."""
    root, signed, size = _structure(source, limits)
    header = _Header(root, register)
    folded, named = header.folded, header.recipients.values()
    facts = FormFacts(
        nul=incoming.nul,
        line_too_long=incoming.line_too_long,
        well_formed=root is not None and header.has_mime and _is_multipart_plain(root),
        header_valid=header.valid,
        envelope_from=folded(incoming.envelope_from),
        header_from=header.header_from(),
        attempted=frozenset(map(folded, incoming.attempted)),
        any_refused=incoming.any_refused,
        named=frozenset(header.recipients),
        has_to=Role.TO in [one.role for one in named],
        bcc_present=header.bcc,
        recipients=tuple([_recipient_facts(one, register) for one in named]),
        decoded_size=size,
        signed=root is not None and is_signed(root),
        inner_differs=_differing_field(root, signed),
    )
    return Form(
        root,
        facts,
        header.subject,
        header.user_message_id,
        # no name: what the sender wrote beside an address is nobody's name to us
        tuple([Recipient(one.address, None, one.role) for one in named if one.address]),
    )


def _differing_field(root: Part | None, signed: Part | None) -> str:
    """Return the field whose outer value the signed content contradicts, or ""."""
    if root is None or signed is None:
        return ""
    return compare_headers(root, signed).differing_field


def _structure(source: ByteSource, limits: SmimeLimits) -> tuple[Part | None, Part | None, int]:
    """Return the part tree, the signed content's own part, and the decoded size a person sees (D15)."""
    try:
        root = scan(source)
        if root.children:
            return root, root.children[0], decoded_size(source, root)
        inside = _opaque_content(source, root, limits)
        if inside is None:
            return root, None, decoded_size(source, root)
        content = scan(inside)
        return root, content, decoded_size(inside, content)
    except MimeLimitError:
        return None, None, 0


def _opaque_content(source: ByteSource, root: Part, limits: SmimeLimits) -> ByteSource | None:
    """Return what an opaque signature carries; None for anything else, and where it cannot be read."""
    if not is_signed(root):
        return None
    try:
        content = read_signed(locate(source, root, limits=limits)).content
    except (SmimeError, DerError):
        return None  # the verifier says why
    return None if content is None else BytesSource(content)


def _is_multipart_plain(root: Part) -> bool:
    return root.type != "multipart" or root.encoding in _IDENTITY


def is_signed(root: Part) -> bool:
    """Say whether the outermost body claims to be the sender's signature (its truth comes later)."""
    kind = f"{root.type}/{root.subtype}"
    if kind == "multipart/signed":
        return True
    return kind in ("application/pkcs7-mime", "application/x-pkcs7-mime")


class _Named(NamedTuple):
    """One recipient of To or Cc: as written, and where it is one the KEP address."""

    written: str
    role: Role
    address: KepAddress | None


class _Header:
    """The fields of the outer header that policy and evidence name."""

    def __init__(self, root: Part | None, register: ProviderRegister) -> None:
        self._register = register
        fields: dict[str, list[bytes]] = {}
        for field in root.fields if root is not None else ():
            fields.setdefault(field.name, []).append(field.raw)
        self._fields = fields
        self.valid = root is None or len(fields) == len(root.fields) or not _stands_twice(fields)
        self.has_mime = root is not None and "mime-version" in fields and bool(fields)
        self.bcc = not fields.keys().isdisjoint({"bcc", "resent-bcc"})
        self.subject = decode_text(self._first("subject")).strip()
        self.user_message_id = self._message_id()
        self.sender_address, self.shown_as = self._sender()
        self.recipients = self._recipients()

    def header_from(self) -> str:
        """Return the sender's address; where people are shown another one, both, which is nobody's."""
        address = self.folded(self.sender_address)
        if self.shown_as == self.sender_address:
            return address
        shown = self.folded(self.shown_as)
        return address if shown == address else f"{shown} <{address}>"

    def folded(self, text: str) -> str:
        """Return the comparable form: a KEP address folded, anything else in lower-case as written."""
        return self._read(text)[0]

    def _read(self, text: str) -> tuple[str, KepAddress | None]:
        try:
            address = self._register.parse(text)
        except AddressError:
            return text.strip().lower(), None
        return str(address), address

    def _first(self, name: str) -> bytes:
        values = self._fields.get(name)
        return values[0] if values else b""

    def _message_id(self) -> str | None:
        text = unfold(self._first("message-id")).strip().decode("utf-8", "replace")
        if not text:
            return None
        if len(text) > 998 or not (text.startswith("<") and text.endswith(">")) or " " in text:
            self.valid = False
            return None
        return text

    def _mailboxes(self, name: str) -> Sequence[Mailbox]:
        try:
            return _mailboxes(self._first(name)) if name in self._fields else ()
        except AddressSyntaxError:
            self.valid = False
            return ()

    def _sender(self) -> tuple[str, str]:
        """Return the sender's address, and the one that people see: the name beside it may hold another."""
        found = self._mailboxes("from")
        if len(found) != 1:
            self.valid = False
            return "", ""
        name, address = found[0].name, found[0].address
        shown = _ADDRESS_IN_NAME.search(name) if name else None
        return address, shown[0] if shown is not None else address

    def _recipients(self) -> dict[str, _Named]:
        """Return who is named in To and Cc, each once, by the comparable form."""
        listed: dict[str, _Named] = {}
        for name, role in (("to", Role.TO), ("cc", Role.CC)):
            for mailbox in self._mailboxes(name):
                folded, address = self._read(mailbox.address)
                if folded not in listed:
                    listed[folded] = _Named(mailbox.address, role, address)
        return listed


def _stands_twice(fields: Mapping[str, Sequence[bytes]]) -> bool:
    """Say whether one of the fields that may stand once stands again."""
    return any(len(fields.get(name, ())) > 1 for name in _ONCE)


def _mailboxes(raw: bytes) -> tuple[Mailbox, ...]:
    return _known_mailboxes(raw) if len(raw) <= _MEMO_MOST else addresses(raw)


_known_mailboxes: Final = lru_cache(maxsize=2048)(addresses)
"""A pure memo by a field's octets: people write to the same people again."""


def _recipient_facts(one: _Named, register: ProviderRegister) -> RecipientFacts:
    address = one.address
    if address is None:
        return RecipientFacts(one.written, Destination.NOT_KEP)
    peer = register.peers.get(address.provider)
    size = peer.max_message if peer is not None else None
    return RecipientFacts(one.written, _DESTINATIONS[register.served(address)], size)
