"""The tables, as SQLAlchemy Core metadata for SQLite and PostgreSQL.

Times are UTC in integer microseconds since 1970 (`storage.rows.values`). Columns named ``personal``,
``label``,
``message_index`` and ``content`` are sealed (`storage.crypto.Vault`): subjects, names, addresses of
messages, what a message's index shows. Ids, digests, sizes, states and times stay readable for keys and
queries.
"""

from typing import Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
)

from storage.audit_guards import AUDIT_GUARDS

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite numbers rows by itself only in a column typed INTEGER.
_Number: Final = BigInteger().with_variant(Integer, "sqlite")

accounts: Final = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("address", Text, nullable=False, unique=True),  # closed ones stay for ever, KEP-CL-05
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # holder's name
    Column("quota_bytes", BigInteger, nullable=False),
    Column("used_bytes", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("state_since", BigInteger, nullable=False),
    Column("seals_allowed", Boolean, nullable=False, server_default=false()),
)

operators: Final = Table(
    "operators",
    metadata,
    Column("operator_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False, index=True),
    Column("personal", LargeBinary, nullable=False),  # name
    Column("identity_mac", LargeBinary, nullable=False),
    Column("rights", Integer, nullable=False),
    Column("is_holder", Boolean, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger),
)

app_passwords: Final = Table(
    "app_passwords",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("password_id", Text, primary_key=True),  # short: it selects a hash within one account
    Column("operator_id", Text, ForeignKey("operators.operator_id"), nullable=False),
    Column("label", LargeBinary, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

bound_certificates: Final = Table(
    "bound_certificates",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("operator_id", Text, ForeignKey("operators.operator_id"), nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # the certificate: it names its holder
    Column("how", Text, nullable=False),
    Column("bound_at", BigInteger, nullable=False),
    Column("withdrawn_at", BigInteger),
    Column("withdrawn_by", LargeBinary),  # sealed
    Index("ix_bound_certificates_account_id", "account_id"),
)
_bound = bound_certificates.c.withdrawn_at.is_(None)
Index(
    "uq_bound_certificates_account_id_sha256",
    bound_certificates.c.account_id,
    bound_certificates.c.sha256,
    unique=True,
    sqlite_where=_bound,
    postgresql_where=_bound,
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("sha512", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
    Column("data_key", LargeBinary, nullable=False),
    Column("message_index", LargeBinary),
)

# Digests whose last reference may have gone; `Blobs.release_unused` looks at these alone.
loose_blobs: Final = Table(
    "loose_blobs",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("sha256", LargeBinary, nullable=False),
)

messages: Final = Table(
    "messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id")),  # none where a peer relayed it
    Column("operator_id", Text),
    Column("state", Text, nullable=False),
    Column("user_message_id", Text),
    Column("digest_sha256", LargeBinary, nullable=False),
    Column("digest_sha512", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # subject, sender, recipients, authentication
    Column("submitted_at", BigInteger, nullable=False),
    Column("material", LargeBinary),
    Column("dispatch", LargeBinary),
    Column("next_at", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("origin", Text),  # domain of the peer that relayed it
    Column("leased_by", Text),  # the process that works on it, until ``next_at``
)
_live = messages.c.state != "refused"
Index(
    "uq_messages_account_id_user_message_id",
    messages.c.account_id,
    messages.c.user_message_id,
    unique=True,
    sqlite_where=_live,
    postgresql_where=_live,
)
_due = messages.c.next_at.is_not(None)
Index("ix_messages_next_at", messages.c.next_at, sqlite_where=_due, postgresql_where=_due)
Index("ix_messages_digest_sha256", messages.c.digest_sha256)
_dispatched = messages.c.dispatch.is_not(None)
Index("ix_messages_dispatch", messages.c.dispatch, sqlite_where=_dispatched, postgresql_where=_dispatched)
_with_material = messages.c.material.is_not(None)
Index(
    "ix_messages_material",
    messages.c.material,
    sqlite_where=_with_material,
    postgresql_where=_with_material,
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("message_id", Text, ForeignKey("messages.message_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("account_id", Text),
    Column("state", Text, nullable=False),
    Column("decided_at", BigInteger),
    Column("evidence_id", Text),
    Column("read_evidence_id", Text),
    Column("peer", Text),  # domain of the provider that serves the recipient; none: we do
    UniqueConstraint("message_id", "number"),
)

evidence: Final = Table(
    "evidence",
    metadata,
    Column("evidence_id", Text, primary_key=True),
    Column("message_id", Text, ForeignKey("messages.message_id"), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # 0 where the kind is about the whole message
    Column("account_id", Text),  # the sender's; none where the sender is a peer's
    Column("blob", LargeBinary, ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("event_time", BigInteger, nullable=False),
    Column("receipt_due", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("origin", Text),  # domain of the peer that made it; none: we did
    Column("leased_by", Text),
    Column("proof", LargeBinary),  # its evidence record (RFC 4998) up to the token at its end
    Column("stamp", LargeBinary),  # SHA-256 of that token
    # released in the grace of D16: the record follows
    Column("unstamped", Boolean, nullable=False, server_default=false()),
    # in which serialisation it was sealed
    Column("profile", Text, nullable=False, server_default="kep-ts102640"),
)
Index("ix_evidence_message_id", evidence.c.message_id)
# What peers say of an event, repeated or contradictory, is all kept; ours is said once a profile.
_ours = evidence.c.origin.is_(None)
Index(
    "uq_evidence_message_id_kind_number",
    evidence.c.message_id,
    evidence.c.kind,
    evidence.c.number,
    evidence.c.profile,
    unique=True,
    sqlite_where=_ours,
    postgresql_where=_ours,
)
_receipt = evidence.c.receipt_due.is_not(None)
Index("ix_evidence_receipt_due", evidence.c.receipt_due, sqlite_where=_receipt, postgresql_where=_receipt)

ledger: Final = Table(
    "ledger",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("evidence_id", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),  # of the tree's leaf; never published by itself
)

# Tokens of batches, each once: an evidence record is its row's ``proof`` with the token behind it.
time_stamps: Final = Table(
    "time_stamps",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("token", LargeBinary, nullable=False),
)

# The Merkle tree over the ledger in tiles of up to 256 hashes, and its signed checkpoints.
ledger_tiles: Final = Table(
    "ledger_tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),  # with every signature that was gathered
    Column("at", BigInteger, nullable=False),
)

# The newest checkpoint of other logs that we cosigned.
witnessed: Final = Table(
    "witnessed",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# What a bundle was sealed with, so that the same contents give the same bytes again.
bundle_appendices: Final = Table(
    "bundle_appendices",
    metadata,
    Column("message_id", Text, ForeignKey("messages.message_id"), primary_key=True),
    Column("inputs", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

transfers: Final = Table(
    "transfers",
    metadata,
    Column("transfer_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("message_id", Text, ForeignKey("messages.message_id"), nullable=False),
    Column("peer", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("evidence_id", Text, nullable=False),  # '' for a dispatch: one per message and peer
    Column(
        "blob", LargeBinary
    ),  # of a receipt, or of a dispatch in the peer's own profile; until handed over
    Column("next_at", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("handed_at", BigInteger),
    Column("leased_by", Text),
    UniqueConstraint("message_id", "peer", "evidence_id"),
    Index("ix_transfers_peer_state", "peer", "state", "transfer_id"),  # listing and counting
)
_queued = transfers.c.state == "queued"
Index(
    "ix_transfers_queued",
    transfers.c.peer,
    transfers.c.next_at,
    sqlite_where=_queued,
    postgresql_where=_queued,
)
_waiting = transfers.c.state.in_(("held", "handed", "answered"))
Index(
    "ix_transfers_waiting",
    transfers.c.next_at,
    transfers.c.deadline,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)
_holding = transfers.c.blob.is_not(None) & (transfers.c.state != "done")
Index("ix_transfers_blob", transfers.c.blob, sqlite_where=_holding, postgresql_where=_holding)

folders: Final = Table(
    "folders",
    metadata,
    Column("folder_id", _Number, primary_key=True, autoincrement=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("uid_validity", BigInteger, nullable=False),
    Column("uid_next", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("unseen", BigInteger, nullable=False),
    Column("subscribed", Boolean, nullable=False),
    UniqueConstraint("account_id", "name"),
    sqlite_autoincrement=True,  # a session that holds a deleted folder's id must never see another folder
)

# The highest UIDVALIDITY that an account's folders ever had: a name used again gets a higher one.
uid_validities: Final = Table(
    "uid_validities",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("highest", BigInteger, nullable=False),
)

items: Final = Table(
    "items",
    metadata,
    Column("folder_id", BigInteger, ForeignKey("folders.folder_id"), primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", LargeBinary, ForeignKey("blobs.sha256"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("flags", Text, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("delivery_id", Text, ForeignKey("deliveries.delivery_id")),
    Column("counts", Boolean, nullable=False),
    Index("ix_items_sha256", "sha256", "folder_id"),
    Index("ix_items_modseq", "folder_id", "modseq"),
    sqlite_with_rowid=False,
)
_delivered = items.c.delivery_id.is_not(None)
Index("ix_items_delivery_id", items.c.delivery_id, sqlite_where=_delivered, postgresql_where=_delivered)

removed_items: Final = Table(
    "removed_items",
    metadata,
    # No foreign key: that a delivery was filed is remembered although its folder was deleted.
    Column("folder_id", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, nullable=False),
    Column("delivery_id", Text),
    Index("ix_removed_items_modseq", "folder_id", "modseq"),
    sqlite_with_rowid=False,
)
_was_delivered = removed_items.c.delivery_id.is_not(None)
Index(
    "ix_removed_items_delivery_id",
    removed_items.c.delivery_id,
    sqlite_where=_was_delivered,
    postgresql_where=_was_delivered,
)

# What the server believes. ``personal`` holds every field but the certificate, sealed: a state that was
# changed by SQL alone makes the row unreadable, never trusted.
trust_anchors: Final = Table(
    "trust_anchors",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("personal", LargeBinary, nullable=False),
)

# The process record. Code only inserts; the databases refuse anything else (`storage.audit_guards`).
audit: Final = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # actor, action, subject, detail
    Column("previous", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)
for _dialect, _guards in AUDIT_GUARDS.items():
    for _guard in _guards:
        event.listen(audit, "after_create", DDL(_guard).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
