"""The first schema: accounts, content, messages, evidence with its ledger, mailboxes."""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision: Final = "0001"
down_revision: Final = None


def _number() -> TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("state_since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("address", name=op.f("uq_accounts_address")),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sha512", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("data_key", sa.LargeBinary(), nullable=False),
        sa.Column("message_index", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "ledger",
        sa.Column("seq", _number(), autoincrement=False, nullable=False),
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ledger")),
        sa.UniqueConstraint("evidence_id", name=op.f("uq_ledger_evidence_id")),
    )
    op.create_table(
        "loose_blobs",
        sa.Column("number", _number(), autoincrement=True, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_loose_blobs")),
    )
    op.create_table(
        "folders",
        sa.Column("folder_id", _number(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False),
        sa.Column("uid_next", sa.BigInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("unseen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_folders_account_id")),
        sa.PrimaryKeyConstraint("folder_id", name=op.f("pk_folders")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_folders_account_id_name")),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
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
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_messages_account_id")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_messages")),
    )
    op.create_index(
        "ix_messages_digest_sha256",
        "messages",
        ["digest_sha256"],
        unique=False,
        sqlite_where=sa.text("state = 'accepted'"),
        postgresql_where=sa.text("state = 'accepted'"),
    )
    op.create_index(
        "ix_messages_dispatch",
        "messages",
        ["dispatch"],
        unique=False,
        sqlite_where=sa.text("state = 'accepted' AND dispatch IS NOT NULL"),
        postgresql_where=sa.text("state = 'accepted' AND dispatch IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_material",
        "messages",
        ["material"],
        unique=False,
        sqlite_where=sa.text("material IS NOT NULL"),
        postgresql_where=sa.text("material IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_next_at",
        "messages",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index(
        "uq_messages_account_id_user_message_id",
        "messages",
        ["account_id", "user_message_id"],
        unique=True,
        sqlite_where=sa.text("state != 'refused'"),
        postgresql_where=sa.text("state != 'refused'"),
    )
    op.create_table(
        "operators",
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("identity_mac", sa.LargeBinary(), nullable=False),
        sa.Column("rights", sa.Integer(), nullable=False),
        sa.Column("is_holder", sa.Boolean(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_operators_account_id")
        ),
        sa.PrimaryKeyConstraint("operator_id", name=op.f("pk_operators")),
    )
    op.create_index(op.f("ix_operators_account_id"), "operators", ["account_id"], unique=False)
    op.create_table(
        "app_passwords",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("password_id", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("label", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_app_passwords_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.operator_id"], name=op.f("fk_app_passwords_operator_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "password_id", name=op.f("pk_app_passwords")),
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence_id", sa.Text(), nullable=True),
        sa.Column("read_evidence_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_deliveries_message_id")
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("message_id", "number", name=op.f("uq_deliveries_message_id_number")),
    )
    op.create_table(
        "evidence",
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("receipt_due", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.sha256"], name=op.f("fk_evidence_blob")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.message_id"], name=op.f("fk_evidence_message_id")),
        sa.PrimaryKeyConstraint("evidence_id", name=op.f("pk_evidence")),
        sa.UniqueConstraint("message_id", "kind", "number", name=op.f("uq_evidence_message_id_kind_number")),
    )
    op.create_index(op.f("ix_evidence_blob"), "evidence", ["blob"], unique=False)
    op.create_index(
        "ix_evidence_receipt_due",
        "evidence",
        ["receipt_due"],
        unique=False,
        sqlite_where=sa.text("receipt_due IS NOT NULL"),
        postgresql_where=sa.text("receipt_due IS NOT NULL"),
    )
    op.create_table(
        "removed_items",
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["folder_id"], ["folders.folder_id"], name=op.f("fk_removed_items_folder_id")
        ),
        sa.PrimaryKeyConstraint("folder_id", "uid", name=op.f("pk_removed_items")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_removed_items_delivery_id",
        "removed_items",
        ["delivery_id"],
        unique=False,
        sqlite_where=sa.text("delivery_id IS NOT NULL"),
        postgresql_where=sa.text("delivery_id IS NOT NULL"),
    )
    op.create_index("ix_removed_items_modseq", "removed_items", ["folder_id", "modseq"], unique=False)
    op.create_table(
        "items",
        sa.Column("folder_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=True),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.delivery_id"], name=op.f("fk_items_delivery_id")
        ),
        sa.ForeignKeyConstraint(["folder_id"], ["folders.folder_id"], name=op.f("fk_items_folder_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_items_sha256")),
        sa.PrimaryKeyConstraint("folder_id", "uid", name=op.f("pk_items")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_items_delivery_id",
        "items",
        ["delivery_id"],
        unique=False,
        sqlite_where=sa.text("delivery_id IS NOT NULL"),
        postgresql_where=sa.text("delivery_id IS NOT NULL"),
    )
    op.create_index("ix_items_modseq", "items", ["folder_id", "modseq"], unique=False)
    op.create_index("ix_items_sha256", "items", ["sha256", "folder_id"], unique=False)
