"""Tables of legal holds and of destroyed content."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from storage.rows.tables import metadata

# SQLite numbers rows by itself only in a column typed INTEGER.
_Number: Final = BigInteger().with_variant(Integer, "sqlite")

# ``personal`` holds who and why, and the state once more: one changed by SQL alone makes the row unreadable.
legal_holds: Final = Table(
    "legal_holds",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("message_id", Text, ForeignKey("messages.message_id")),  # one of both
    Column("account_id", Text, ForeignKey("accounts.account_id")),
    Column("state", Text, nullable=False),
    Column("set_at", BigInteger, nullable=False),
    Column("lifted_at", BigInteger),
    Column("personal", LargeBinary, nullable=False),
)
_stands: Final = legal_holds.c.lifted_at.is_(None)
for _column in (legal_holds.c.message_id, legal_holds.c.account_id):
    Index(
        f"ix_legal_holds_{_column.name}",
        _column,
        sqlite_where=_stands,
        postgresql_where=_stands,
    )

# Content that left a mailbox while a hold stood on its account; gone when the hold is lifted.
held_contents: Final = Table(
    "held_contents",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("hold", BigInteger, ForeignKey("legal_holds.number"), primary_key=True, autoincrement=False),
    Index("ix_held_contents_hold", "hold"),
)

# Who removed items whose content may still be there; forgotten once it is destroyed, which names them.
removals: Final = Table(
    "removals",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("sha256", LargeBinary, nullable=False, index=True),
    Column("account_id", Text, nullable=False),
    Column("operator_id", Text),
    Column("cause", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # the name
)

destroyed_contents: Final = Table(
    "destroyed_contents",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # of the process record's entry
    Column("message_id", Text, ForeignKey("messages.message_id"), nullable=False, index=True),
    Column("part", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("cause", Text),  # of the last removal; none where no mailbox had it
)

# Closed accounts whose mailboxes are still to be emptied.
pending_erasures: Final = Table(
    "pending_erasures",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("closed_at", BigInteger, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # who closed it
)
