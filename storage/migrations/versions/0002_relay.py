"""Relay between providers, leases with their holder, folders that come and go.

SQLite cannot change a column or a constraint: there each table is made anew, filled from the old one
and renamed (the procedure its documentation gives for ALTER TABLE). Foreign keys are not enforced while
migrations run on SQLite; they are checked at the end.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision: Final = "0002"
down_revision: Final = "0001"

_OURS: Final = "origin IS NULL"
_NEW: Final = "_new"


class DanglingReferencesError(Exception):
    """Rows name rows that do not exist: the database was damaged before. Nothing was changed."""


def _number() -> TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _messages()
        _deliveries()
        _evidence()
        _folders()
        _removed_items()
    else:
        _alter()
    _evidence_indexes()
    _transfers()
    _uid_validities()
    if op.get_bind().dialect.name == "sqlite":
        broken = op.get_bind().execute(sa.text("PRAGMA foreign_key_check")).fetchall()
        if broken:
            tables = sorted({str(row[0]) for row in broken})
            raise DanglingReferencesError(f"{len(broken)} rows of {', '.join(tables)}")


def _alter() -> None:
    """Change the tables in place."""
    for name in ("account_id", "operator_id"):
        op.alter_column("messages", name, existing_type=sa.Text(), nullable=True)
    for name in ("origin", "leased_by"):
        op.add_column("messages", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("peer", sa.Text(), nullable=True))
    op.drop_constraint(op.f("uq_evidence_message_id_kind_number"), "evidence", type_="unique")
    op.alter_column("evidence", "account_id", existing_type=sa.Text(), nullable=True)
    for name in ("origin", "leased_by"):
        op.add_column("evidence", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("folders", sa.Column("subscribed", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.alter_column("folders", "subscribed", existing_type=sa.Boolean(), server_default=None)
    op.drop_constraint(op.f("fk_removed_items_folder_id"), "removed_items", type_="foreignkey")


def _replace(table: str, filled: str, source: str | None = None) -> None:
    """Fill a new table from the old one and let it take its name."""
    statement = f"INSERT INTO {table}{_NEW} ({filled}) SELECT {source or filled} FROM {table}"  # noqa: S608 - names of this file
    op.execute(sa.text(statement))
    op.drop_table(table)
    op.rename_table(table + _NEW, table)


def _messages() -> None:
    op.create_table(
        "messages" + _NEW,
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("operator_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("user_message_id", sa.Text(), nullable=True),
        sa.Column("digest_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("digest_sha512", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("material", sa.LargeBinary(), nullable=True),
        sa.Column("dispatch", sa.LargeBinary(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_messages_account_id")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_messages")),
    )
    _replace(
        "messages",
        "message_id, account_id, operator_id, state, user_message_id, digest_sha256, digest_sha512, size, "
        "personal, submitted_at, material, dispatch, next_at, attempts",
    )
    for name, where in (
        ("digest_sha256", "state = 'accepted'"),
        ("dispatch", "state = 'accepted' AND dispatch IS NOT NULL"),
        ("material", "material IS NOT NULL"),
        ("next_at", "next_at IS NOT NULL"),
    ):
        op.create_index(f"ix_messages_{name}", "messages", [name], sqlite_where=sa.text(where))
    op.create_index(
        "uq_messages_account_id_user_message_id",
        "messages",
        ["account_id", "user_message_id"],
        unique=True,
        sqlite_where=sa.text("state != 'refused'"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries" + _NEW,
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence_id", sa.Text(), nullable=True),
        sa.Column("read_evidence_id", sa.Text(), nullable=True),
        sa.Column("peer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_deliveries_message_id")
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("message_id", "number", name=op.f("uq_deliveries_message_id_number")),
    )
    _replace(
        "deliveries",
        "delivery_id, message_id, number, address, account_id, state, decided_at, evidence_id, "
        "read_evidence_id",
    )


def _evidence() -> None:
    op.create_table(
        "evidence" + _NEW,
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("receipt_due", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_evidence_blob")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.message_id"], name=op.f("fk_evidence_message_id")),
        sa.PrimaryKeyConstraint("evidence_id", name=op.f("pk_evidence")),
    )
    _replace(
        "evidence",
        "evidence_id, message_id, kind, number, account_id, blob, event_time, receipt_due, attempts",
    )
    op.create_index(op.f("ix_evidence_blob"), "evidence", ["blob"])
    op.create_index(
        "ix_evidence_receipt_due",
        "evidence",
        ["receipt_due"],
        sqlite_where=sa.text("receipt_due IS NOT NULL"),
    )


def _evidence_indexes() -> None:
    op.create_index("ix_evidence_message_id", "evidence", ["message_id"])
    op.create_index(
        "uq_evidence_message_id_kind_number",
        "evidence",
        ["message_id", "kind", "number"],
        unique=True,
        sqlite_where=sa.text(_OURS),
        postgresql_where=sa.text(_OURS),
    )


def _folders() -> None:
    op.create_table(
        "folders" + _NEW,
        sa.Column("folder_id", _number(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False),
        sa.Column("uid_next", sa.BigInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("unseen", sa.BigInteger(), nullable=False),
        sa.Column("subscribed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_folders_account_id")),
        sa.PrimaryKeyConstraint("folder_id", name=op.f("pk_folders")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_folders_account_id_name")),
        sqlite_autoincrement=True,
    )
    kept = "folder_id, account_id, name, role, uid_validity, uid_next, modseq, messages, unseen"
    _replace("folders", f"{kept}, subscribed", f"{kept}, 1")


def _removed_items() -> None:
    op.create_table(
        "removed_items" + _NEW,
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("folder_id", "uid", name=op.f("pk_removed_items")),
        sqlite_with_rowid=False,
    )
    _replace("removed_items", "folder_id, uid, modseq, delivery_id")
    op.create_index(
        "ix_removed_items_delivery_id",
        "removed_items",
        ["delivery_id"],
        sqlite_where=sa.text("delivery_id IS NOT NULL"),
    )
    op.create_index("ix_removed_items_modseq", "removed_items", ["folder_id", "modseq"])


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("handed_at", sa.BigInteger(), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_transfers_message_id")
        ),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_transfers")),
        sa.UniqueConstraint(
            "message_id", "peer", "evidence_id", name=op.f("uq_transfers_message_id_peer_evidence_id")
        ),
    )
    op.create_index("ix_transfers_peer_state", "transfers", ["peer", "state", "transfer_id"])
    for name, columns, condition in (
        ("ix_transfers_blob", ["blob"], "blob IS NOT NULL AND state != 'done'"),
        ("ix_transfers_queued", ["peer", "next_at"], "state = 'queued'"),
        ("ix_transfers_waiting", ["next_at", "deadline"], "state IN ('held', 'handed', 'answered')"),
    ):
        where = sa.text(condition)
        op.create_index(name, "transfers", columns, sqlite_where=where, postgresql_where=where)


def _uid_validities() -> None:
    op.create_table(
        "uid_validities",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_uid_validities_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_uid_validities")),
    )
    op.execute(
        sa.text(
            "INSERT INTO uid_validities (account_id, highest) "
            "SELECT account_id, max(uid_validity) FROM folders GROUP BY account_id"
        )
    )
