"""What storage raises beside the errors of `kephs.ports`."""


class ConflictError(Exception):
    """A row breaks a rule of the store: an id or address is taken, or what it names does not exist."""


class ReadOnlyError(Exception):
    """Work handed to `Store.read` tried to write: a defect. Nothing was written."""


class SchemaError(Exception):
    """The database's revision is not this program's; the message names the command that helps."""
