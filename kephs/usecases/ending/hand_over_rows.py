"""Rows as a hand-over writes them: JSON, one line each, field names as in the program's data classes.

Octets are hexadecimal, times microseconds since 1970 UTC, enumerations their values, addresses their text.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from directory.accounts import AccountState
from directory.addresses import KepAddress
from evidence.bundle.archive_object import micros
from evidence.ledger.chain import LedgerEntry
from kephs.domain.audit_anchor import is_anchor_name
from kephs.ports import Tx
from kephs.ports.hand_over import ForeignState
from kephs.usecases.archive.rows import plain_row

ROWS_OF: Final = 500
"""Accounts and messages of one file at most."""
ITEMS_OF: Final = 5_000
"""Mailbox items, ledger entries and addresses of one file at most."""


class ContentGoneError(Exception):
    """The store names something that is not there: `kephs fsck` says more."""


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Raises:
        TypeError: something that no row holds.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes | datetime | KepAddress):
        return _plain_one(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return _plain_many(value)


def _plain_one(value: bytes | datetime | KepAddress) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return micros(value) if isinstance(value, datetime) else str(value)


def _plain_many(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(plain(one) for one in value)
    if isinstance(value, Sequence):
        return [plain(one) for one in value]
    raise TypeError(f"{type(value).__name__} in a row")


def line(value: Any) -> bytes:
    """Return a value as one line: canonical JSON, keys in order, no spaces, a newline."""
    return (
        json.dumps(plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    )


def lines(values: Iterable[Any]) -> bytes:
    """Return values, one a line."""
    return b"".join(map(line, values))


def read_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that `lines` wrote.

    Raises:
        ValueError: not such a file.
    """
    if content and not content.endswith(b"\n"):
        raise ValueError("the file ends early")
    for one in content.split(b"\n")[:-1]:
        try:
            found = json.loads(one)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(found, dict):
            raise ValueError("a line that is no object")  # noqa: TRY004  # the file's fault, not the caller's
        yield found


def account_rows(tx: Tx, account_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return accounts with everybody who acts for them, bound certificates and folders.

    App passwords stay behind: they are secrets between the holder and the provider that made them.
    """
    found = []
    for account_id in account_ids:
        account = tx.accounts.get(account_id)
        if account is None:
            raise ContentGoneError(f"account {account_id}")
        found.append(
            {
                "account": account,
                "operators": tx.accounts.operators(account_id),
                "certificates": [
                    plain(one) | {"der": b64encode(one.der).decode()}
                    for one in tx.accounts.certificates(account_id)
                ],
                "folders": tx.mailboxes.folders(account_id),
            }
        )
    return found


def closed_addresses(tx: Tx) -> list[dict[str, Any]]:
    """Return every address that nobody may ever have again (KEP-CL-05), by address.

    Those that providers taken over had closed are among them: whoever comes next refuses them, too.
    """
    own = [
        {"address": str(one.address), "since": one.state_since}
        for one in tx.accounts.all()
        if one.state is AccountState.CLOSED
    ]
    for archive in tx.foreign.archives():
        after = ""
        while page := tx.foreign.addresses(archive.domain, after, ITEMS_OF):
            gone = (one for one in page if one.state is ForeignState.CLOSED)
            own += [{"address": one.address, "since": one.since} for one in gone]
            after = page[-1].address
    return sorted(own, key=lambda one: str(one["address"]))


def message_rows(tx: Tx, message_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return messages with deliveries, evidence, transfers, and what their bundles were sealed with."""
    found = []
    for message_id in message_ids:
        message = tx.messages.get(message_id)
        if message is None:
            raise ContentGoneError(f"message {message_id}")
        evidences = []
        for one in tx.evidence.of_message(message_id):
            entry = tx.evidence.ledger_of(one.evidence_id)
            evidences.append({"row": one, "ledger_number": None if entry is None else entry.number})
        appendix = tx.evidence.appendix(message_id)
        found.append(
            {
                "message": message,
                "deliveries": tx.deliveries.of_message(message_id),
                "evidence": evidences,
                "transfers": tx.transfers.of_message(message_id),
                "kept": message_contents(tx, [message_id]),
                "destroyed": tx.erasures.destroyed(message_id),
                "appendix": None if appendix is None else [appendix[0], b64encode(appendix[1]).decode()],
            }
        )
    return found


def message_contents(tx: Tx, message_ids: Sequence[str]) -> set[bytes]:
    """Return the digests of content that messages name and that is still kept."""
    wanted: set[bytes | None] = set()
    for message_id in message_ids:
        message = tx.messages.get(message_id)
        if message is not None:
            wanted |= {message.digest_sha256, message.dispatch, message.material}
    return {digest for digest in wanted if digest is not None and tx.blobs.get(digest) is not None}


def folder_items(tx: Tx, folder_id: int, after: int) -> list[dict[str, Any]]:
    """Return the next items of a folder above a UID, ascending."""
    summaries = sorted(
        (one for one in tx.mailboxes.summaries(folder_id) if one.uid > after), key=lambda one: one.uid
    )[:ITEMS_OF]
    return [
        {"sha256": item.sha256, "item": item.summary}
        for item in sorted(
            tx.mailboxes.items(folder_id, [one.uid for one in summaries]), key=lambda item: item.summary.uid
        )
    ]


def tail_rows(tx: Tx, entries: Sequence[LedgerEntry]) -> list[tuple[LedgerEntry, dict[str, Any], Any]]:
    """Return, for entries that no object of the archive holds, row and place of their evidence.

    Anchors of the process record stand in the ledger without evidence: they are left out.
    """
    found = []
    for entry in entries:
        if is_anchor_name(entry.evidence_id):
            continue
        evidence, blob = tx.evidence.get(entry.evidence_id), tx.blobs.get(entry.evidence_sha256)
        if evidence is None or blob is None:
            raise ContentGoneError(f"evidence {entry.evidence_id} of ledger entry {entry.number}")
        ers = tx.evidence.ers(entry.evidence_id)
        facts = {
            "number": entry.number, "evidence_id": entry.evidence_id,
            "ers": None if ers is None else b64encode(ers).decode(), "row": plain_row(evidence),
            "unstamped": evidence.unstamped,
        }  # fmt: skip
        found.append((entry, facts, blob))
    return found
