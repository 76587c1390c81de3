"""Providers taken over, and their addresses."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    op.create_table(
        "foreign_archives",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_foreign_archives")),
    )
    op.create_table(
        "foreign_addresses",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_foreign_addresses_account_id")
        ),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_foreign_addresses")),
    )
    op.create_index("ix_foreign_addresses_domain", "foreign_addresses", ["domain", "address"])
