"""The archive's tables: its objects, and the rounds of renewal."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from storage.rows.tables import metadata

archive_objects: Final = Table(
    "archive_objects",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("first_no", BigInteger, nullable=False),
    Column("last_no", BigInteger, nullable=False),
    Column("place", Text, nullable=False),  # the kind of store that has this version
    Column("version", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),  # of the sealed octets
    Column("sha512", LargeBinary, nullable=False),
    Column("retain_until", BigInteger, nullable=False),
    Column("sealed_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("checked_at", BigInteger),
    Column("check_due", BigInteger),
    Column("renewed_round", Integer, nullable=False),
)
# Ranges follow each other: the end of the last is how far the archive reaches. A round may be many objects.
Index("ix_archive_objects_kind_last_no", archive_objects.c.kind, archive_objects.c.last_no)
_damaged = archive_objects.c.state == "damaged"
Index(
    "ix_archive_objects_damaged",
    archive_objects.c.name,
    sqlite_where=_damaged,
    postgresql_where=_damaged,
)
Index("ix_archive_objects_check_due", archive_objects.c.check_due)

# Whoever stamped archived evidence, with the range of the ledger that it is known for.
archive_authorities: Final = Table(
    "archive_authorities",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),  # of the authority's certificate
    Column("path", LargeBinary, nullable=False),  # DER after DER, authority first, root last
    Column("first_no", BigInteger, nullable=False),
    Column("last_no", BigInteger, nullable=False),
)

renewals: Final = Table(
    "renewals",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("hash_name", Text, nullable=False),
    Column("token_sha256", LargeBinary, nullable=False),
    Column("leaves", BigInteger, nullable=False),
    Column("last_no", BigInteger, nullable=False),
    Column("head", Text, ForeignKey("archive_objects.name"), nullable=False),
)
