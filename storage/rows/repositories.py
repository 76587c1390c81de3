"""One transaction's view of the database: the repositories of all subjects together."""

from storage.rows.accounts import SqlAccounts
from storage.rows.archive import SqlArchive
from storage.rows.blobs import SqlBlobs
from storage.rows.deliveries import SqlDeliveries
from storage.rows.evidences import SqlEvidences
from storage.rows.foreign import SqlForeign
from storage.rows.holds import SqlErasures, SqlHolds
from storage.rows.mailboxes import SqlMailboxes
from storage.rows.messages import SqlMessages
from storage.rows.preservation import SqlPreservation
from storage.rows.statements import Database
from storage.rows.transfers import SqlTransfers
from storage.rows.tree import SqlTree
from storage.rows.trust import SqlAnchors, SqlAudit


class SqlTx:
    """`kephs.ports.Tx` in SQL; one object per connection, used for one transaction after the other."""

    def __init__(self, database: Database) -> None:
        blobs = SqlBlobs(database)
        self.accounts = SqlAccounts(database)
        self.blobs = blobs
        self.messages = SqlMessages(database, blobs)
        self.deliveries = SqlDeliveries(database)
        self.evidence = SqlEvidences(database, blobs)
        self.tree = SqlTree(database)
        self.transfers = SqlTransfers(database, blobs)
        self.mailboxes = SqlMailboxes(database, blobs)
        self.anchors = SqlAnchors(database)
        self.audit = SqlAudit(database, self.evidence)
        self.archive = SqlArchive(database, blobs, self.audit)
        self.preservation = SqlPreservation(database, self.archive)
        self.erasures = SqlErasures(database, self.messages)
        self.holds = SqlHolds(database, blobs)
        self.foreign = SqlForeign(database)

    def begin(self) -> None:
        """Forget what an earlier, failed work left."""
        self.blobs.loose.clear()

    def finish(self) -> None:
        """Write what is only known at the end of the work."""
        if self.blobs.loose:
            self.blobs.settle()
