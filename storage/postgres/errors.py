"""What goes wrong with a PostgreSQL database before any work is done; known without loading psycopg."""

from storage.errors import SchemaError


class DatabaseUrlError(SchemaError):
    """The text is no PostgreSQL URL or connection string."""


class DatabaseRefusedError(SchemaError):
    """The database cannot be reached, refuses us, or is not fit; ``cure`` says what helps.

    Args:
        code: stable, lower-case with hyphens.
        text: what happened; never the password.
        cure: what to do about it.
    """

    def __init__(self, code: str, text: str, cure: str) -> None:
        super().__init__(f"{text}; {cure}")
        self.code, self.text, self.cure = code, text, cure
