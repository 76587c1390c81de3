"""The shape of a row of the negative matrix."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One rule and how it is broken; ``twins`` names one or several plans that pass without the spoil.

    ``change`` instead of ``spoil``: fields of the plan (circumstances, not octets) that differ.
    """

    rule: str
    twins: str
    spoil: str
    step: str
    sub: str
    change: tuple[tuple[str, object], ...] = ()
