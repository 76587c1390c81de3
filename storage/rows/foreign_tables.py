"""Tables of providers taken over: which, and which addresses wait for their holders or are closed."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text

from storage.rows.tables import metadata

foreign_archives: Final = Table(
    "foreign_archives",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("manifest_sha256", LargeBinary, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("personal", LargeBinary, nullable=False),  # who took it over
)

foreign_addresses: Final = Table(
    "foreign_addresses",
    metadata,
    Column("address", Text, primary_key=True),
    Column("domain", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("account_id", Text, ForeignKey("accounts.account_id")),  # once the holder consented
)
Index("ix_foreign_addresses_domain", foreign_addresses.c.domain, foreign_addresses.c.address)
