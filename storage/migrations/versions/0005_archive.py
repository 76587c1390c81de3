"""The archive's objects, who stamped what lies in them, the rounds of renewal."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    op.create_table(
        "archive_objects",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("first_no", sa.BigInteger(), nullable=False),
        sa.Column("last_no", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sha512", sa.LargeBinary(), nullable=False),
        sa.Column("retain_until", sa.BigInteger(), nullable=False),
        sa.Column("sealed_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=True),
        sa.Column("check_due", sa.BigInteger(), nullable=True),
        sa.Column("renewed_round", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_archive_objects")),
    )
    op.create_index("ix_archive_objects_kind_last_no", "archive_objects", ["kind", "last_no"])
    where = sa.text("state = 'damaged'")
    op.create_index(
        "ix_archive_objects_damaged", "archive_objects", ["name"], sqlite_where=where, postgresql_where=where
    )
    op.create_index("ix_archive_objects_check_due", "archive_objects", ["check_due"])
    op.create_table(
        "archive_authorities",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("first_no", sa.BigInteger(), nullable=False),
        sa.Column("last_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_archive_authorities")),
    )
    op.create_table(
        "renewals",
        sa.Column("round", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("hash_name", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("leaves", sa.BigInteger(), nullable=False),
        sa.Column("last_no", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["head"], ["archive_objects.name"], name=op.f("fk_renewals_head")),
        sa.PrimaryKeyConstraint("round", name=op.f("pk_renewals")),
    )
