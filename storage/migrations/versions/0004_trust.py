"""The trust list, the process record, certificates bound to accounts, seals as a choice of an account."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from storage.audit_guards import AUDIT_GUARDS

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    allowed: sa.Column[bool] = sa.Column(
        "seals_allowed", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("accounts", allowed)
    _bound_certificates()
    op.create_table(
        "trust_anchors",
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_trust_anchors")),
    )
    _audit()


def _number(*, autoincrement: bool) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("number", kind, nullable=False, autoincrement=autoincrement)


def _bound_certificates() -> None:
    op.create_table(
        "bound_certificates",
        _number(autoincrement=True),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("bound_at", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_by", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_bound_certificates_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.operator_id"], name=op.f("fk_bound_certificates_operator_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_bound_certificates")),
    )
    op.create_index("ix_bound_certificates_account_id", "bound_certificates", ["account_id"])
    where = sa.text("withdrawn_at IS NULL")
    op.create_index(
        "uq_bound_certificates_account_id_sha256", "bound_certificates", ["account_id", "sha256"],
        unique=True, sqlite_where=where, postgresql_where=where,
    )  # fmt: skip


def _audit() -> None:
    op.create_table(
        "audit",
        _number(autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("personal", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    for guard in AUDIT_GUARDS[op.get_bind().dialect.name]:
        op.execute(sa.text(guard))
