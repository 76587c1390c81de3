"""Evidence records, salts and tree of the ledger, what a bundle was sealed with.

SQLite cannot add a column that must have a value: there the ledger is made anew (as in 0002). Entries that
exist get random salts; the tree over them is built by the next publication.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    op.add_column("evidence", sa.Column("proof", sa.LargeBinary(), nullable=True))
    op.add_column("evidence", sa.Column("stamp", sa.LargeBinary(), nullable=True))
    unstamped: sa.Column[bool] = sa.Column(
        "unstamped", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("evidence", unstamped)
    profile: sa.Column[str] = sa.Column("profile", sa.Text(), nullable=False, server_default="kep-ts102640")
    op.add_column("evidence", profile)
    op.drop_index("uq_evidence_message_id_kind_number", "evidence")
    op.create_index(
        "uq_evidence_message_id_kind_number", "evidence", ["message_id", "kind", "number", "profile"],
        unique=True, sqlite_where=sa.text("origin IS NULL"), postgresql_where=sa.text("origin IS NULL"),
    )  # fmt: skip
    if op.get_bind().dialect.name == "sqlite":
        _ledger()
    else:
        op.add_column("ledger", sa.Column("salt", sa.LargeBinary(), nullable=True))
        salt = "uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())"
        op.execute(sa.text(f"UPDATE ledger SET salt = {salt}"))  # noqa: S608 - a constant
        op.alter_column("ledger", "salt", existing_type=sa.LargeBinary(), nullable=False)
    _messages()
    _time_stamps()
    _tree()
    _appendices()


def _messages() -> None:
    """The KEP message of a message sent here stays as long as somebody has its original."""
    op.drop_index("ix_messages_digest_sha256", "messages")
    op.create_index("ix_messages_digest_sha256", "messages", ["digest_sha256"])
    where = sa.text("dispatch IS NOT NULL")
    op.drop_index("ix_messages_dispatch", "messages")
    op.create_index(
        "ix_messages_dispatch", "messages", ["dispatch"], sqlite_where=where, postgresql_where=where
    )


def _ledger() -> None:
    op.create_table(
        "ledger_new",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=False
        ),
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ledger")),
        sa.UniqueConstraint("evidence_id", name=op.f("uq_ledger_evidence_id")),
    )
    columns = "seq, evidence_id, digest, at, previous, hash"
    filled = f"INSERT INTO ledger_new ({columns}, salt) SELECT {columns}, randomblob(32) FROM ledger"  # noqa: S608 - names of this file
    op.execute(sa.text(filled))
    op.drop_table("ledger")
    op.rename_table("ledger_new", "ledger")


def _time_stamps() -> None:
    op.create_table(
        "time_stamps",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_time_stamps")),
    )


def _tree() -> None:
    op.create_table(
        "ledger_tiles",
        sa.Column("level", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_ledger_tiles")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "witnessed",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_witnessed")),
    )


def _appendices() -> None:
    op.create_table(
        "bundle_appendices",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_bundle_appendices_message_id")
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_bundle_appendices")),
    )
