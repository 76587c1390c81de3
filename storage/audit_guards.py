"""Triggers that keep the process record as it is: rows come at the end, none changes, none goes (KEP-RT-04).

They stop programs and hands that work through SQL. Whoever owns the database can drop them; what that changes
breaks the chain of digests, which fsck and `kephs audit verify` follow.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SQLITE: Final = """
CREATE TRIGGER audit_{name} BEFORE {event} ON audit{when}
BEGIN SELECT RAISE(ABORT, 'the process record is never changed'); END
"""
_POSTGRES_FUNCTION: Final = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION 'the process record is never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
_POSTGRES: Final = """
CREATE TRIGGER audit_{name} BEFORE {event} ON audit FOR EACH {each} EXECUTE FUNCTION audit_refuse()
"""
# INSERT OR REPLACE deletes without asking the trigger for DELETE; so numbers must rise.
_RISING: Final = " WHEN NEW.number <= (SELECT coalesce(max(number), 0) FROM audit)"

AUDIT_GUARDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sqlite": (
            _SQLITE.format(name="only_appended", event="INSERT", when=_RISING),
            _SQLITE.format(name="no_update", event="UPDATE", when=""),
            _SQLITE.format(name="no_delete", event="DELETE", when=""),
        ),
        "postgresql": (
            _POSTGRES_FUNCTION,
            _POSTGRES.format(name="no_change", event="UPDATE OR DELETE", each="ROW"),
            _POSTGRES.format(name="no_truncate", event="TRUNCATE", each="STATEMENT"),
        ),
    }
)
