"""Legal holds, who removed what, what was destroyed, closed accounts still to be emptied."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    _holds()
    _erasures()


def _number(name: str = "number", *, autoincrement: bool = False) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, nullable=False, autoincrement=autoincrement)


def _holds() -> None:
    op.create_table(
        "legal_holds",
        _number(),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=True),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_legal_holds_message_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_legal_holds_account_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_legal_holds")),
    )
    where = sa.text("lifted_at IS NULL")
    for name in ("message_id", "account_id"):
        op.create_index(
            f"ix_legal_holds_{name}", "legal_holds", [name], sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "held_contents",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("hold", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.ForeignKeyConstraint(["hold"], ["legal_holds.number"], name=op.f("fk_held_contents_hold")),
        sa.PrimaryKeyConstraint("sha256", "hold", name=op.f("pk_held_contents")),
    )
    op.create_index("ix_held_contents_hold", "held_contents", ["hold"])


def _erasures() -> None:
    op.create_table(
        "removals",
        _number(autoincrement=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_removals")),
    )
    op.create_index(op.f("ix_removals_sha256"), "removals", ["sha256"])
    op.create_table(
        "destroyed_contents",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.message_id"], name=op.f("fk_destroyed_contents_message_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_destroyed_contents")),
    )
    op.create_index(op.f("ix_destroyed_contents_message_id"), "destroyed_contents", ["message_id"])
    op.create_table(
        "pending_erasures",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_pending_erasures_account_id")
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_pending_erasures")),
    )
    # Accounts closed before: nobody noted here who did it, the process record has it.
    op.execute(
        sa.text(
            "INSERT INTO pending_erasures (account_id, closed_at, personal)"
            " SELECT account_id, state_since, :nobody FROM accounts WHERE state = 'closed'"
        ).bindparams(sa.bindparam("nobody", b"", sa.LargeBinary()))
    )
