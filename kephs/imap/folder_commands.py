"""Commands about folders and the account: LIST, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, QUOTA.

spec: RFC3501#6.3, RFC5819, RFC8438, RFC9208, RFC7889
"""

from collections.abc import Collection
from typing import Final, TypeAlias

from kephs.domain.mailboxes import Folder, FolderRole
from kephs.domain.messages import Person
from kephs.imap import commands as c
from kephs.imap import mutf7, render
from kephs.imap.listing import listed
from kephs.imap.states import Answer, RefusedError
from kephs.usecases.mailbox.mailbox import MailboxService

FolderCommand: TypeAlias = (
    c.Listing
    | c.Status
    | c.Subscribe
    | c.Create
    | c.Delete
    | c.Rename
    | c.GetQuota
    | c.GetQuotaRoot
    | c.SetQuota
)
_WEIGHED: Final = frozenset({c.StatusItem.SIZE, c.StatusItem.DELETED, c.StatusItem.DELETED_STORAGE})


class FolderCommands:
    """Answers commands about one person's folders. Refusals are raised; `Session` words them."""

    def __init__(self, service: MailboxService, person: Person, *, utf8: bool) -> None:
        self._service, self._person, self._utf8 = service, person, utf8

    async def answer(self, body: FolderCommand) -> Answer:
        """Perform a command.

        Raises:
            RefusedError, MailboxRefusedError, NotPermittedError: it is answered NO.
        """
        match body:
            case c.Listing():
                return await self._list(body)
            case c.Status():
                folder = await self.folder(body.mailbox)
                return Answer(await self._status(folder, body.items), b"STATUS done")
            case c.GetQuota() | c.GetQuotaRoot() | c.SetQuota():
                return await self._on_quota(body)
            case _:
                return await self._change(body)

    async def folder(self, name: str) -> Folder:
        """Return a folder.

        Raises:
            RefusedError: there is none of that name.
        """
        folder = await self._service.folder(self._person, name)
        if folder is None:
            raise RefusedError("[NONEXISTENT] No such mailbox")
        return folder

    async def _change(self, body: c.Subscribe | c.Create | c.Delete | c.Rename) -> Answer:
        tree = self._service.tree
        match body:
            case c.Create(name):
                # spec: RFC3501#6.3.3 (a delimiter at the end announces folders below)
                await tree.create(self._person, name.removesuffix("/"))
                return Answer(text=b"Created")
            case c.Delete(name):
                await tree.delete(self._person, name)
                return Answer(text=b"Deleted")
            case c.Rename(name, to):
                await tree.rename(self._person, name, to.removesuffix("/"))
                return Answer(text=b"Renamed")
            case c.Subscribe(name, on):
                await tree.subscribe(self._person, name, on=on)
                return Answer(text=b"Subscribed" if on else b"Unsubscribed")

    # --- LIST, STATUS ---------------------------------------------------------------------------------

    async def _list(self, body: c.Listing) -> Answer:
        lines: list[bytes] = []
        for entry in listed(body, await self._service.folders(self._person), utf8=self._utf8):
            lines.append(entry.line)
            if body.status and entry.folder is not None:
                lines.append(await self._status(entry.folder, body.status))
        return Answer(b"".join(lines), b"Listed")

    async def _status(self, folder: Folder, items: Collection[c.StatusItem]) -> bytes:
        values = {
            c.StatusItem.MESSAGES: folder.messages,
            c.StatusItem.RECENT: 0,
            c.StatusItem.UIDNEXT: folder.uid_next,
            c.StatusItem.UIDVALIDITY: folder.uid_validity,
            c.StatusItem.UNSEEN: folder.unseen,
            c.StatusItem.HIGHESTMODSEQ: folder.modseq,
            c.StatusItem.APPENDLIMIT: self._service.filing.append_max,
        }
        if not _WEIGHED.isdisjoint(items):
            size = await self._service.tree.size(folder)
            values[c.StatusItem.SIZE] = size.total
            values[c.StatusItem.DELETED] = size.deleted
            values[c.StatusItem.DELETED_STORAGE] = size.deleted_bytes
        told = " ".join(f"{item.value} {values[item]}" for item in items)
        return b"* STATUS %b (%b)\r\n" % (mutf7.wire(folder.name, utf8=self._utf8), told.encode("ascii"))

    # --- QUOTA ----------------------------------------------------------------------------------------

    async def _on_quota(self, body: c.GetQuota | c.GetQuotaRoot | c.SetQuota) -> Answer:
        match body:
            case c.SetQuota():
                raise RefusedError("[NOPERM] The quota is the provider's to set")
            case c.GetQuota(root):
                if root:
                    raise RefusedError("[NONEXISTENT] No such quota root")
                return Answer(await self._quota(), b"GETQUOTA done")
            case c.GetQuotaRoot(mailbox):
                folder = await self.folder(mailbox)
                line = b"* QUOTAROOT " + mutf7.wire(folder.name, utf8=self._utf8)
                if folder.role is FolderRole.EVIDENCE:  # spec: KEP-RT-06 (evidence is not counted)
                    return Answer(line + b"\r\n", b"GETQUOTAROOT done")
                return Answer(line + b' ""\r\n' + await self._quota(), b"GETQUOTAROOT done")

    async def _quota(self) -> bytes:
        quota = await self._service.tree.quota(self._person)
        # spec: RFC9208#5.1 (units of 1024 octets)
        return b"* QUOTA %b (STORAGE %d %d)\r\n" % (
            render.string(b""),
            -(-quota.used // 1024),
            quota.limit // 1024,
        )
