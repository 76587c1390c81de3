"""The message of one APPEND on its way in: checked before it is asked for, spooled, never held in memory.

spec: RFC3501#6.3.11, RFC4315#3 (APPENDUID), RFC6855#4, RFC7889
"""

from kephs.domain.messages import Person
from kephs.imap.commands import Append
from kephs.imap.cursor import GrammarError
from kephs.imap.states import Answer
from kephs.ports import StoreUnavailableError
from kephs.usecases.mailbox.filing import Appending
from kephs.usecases.mailbox.mailbox import MailboxService


class AppendReceiver:
    """Takes one message. Where it cannot be stored, the rest is passed over and the answer says so."""

    def __init__(self, command: Append, appending: Appending) -> None:
        self._command, self._appending = command, appending
        self._failure: StoreUnavailableError | None = None

    @classmethod
    async def begin(cls, service: MailboxService, person: Person, command: Append) -> "AppendReceiver":
        """Make sure that the message may come.

        Raises:
            MailboxRefusedError, NotPermittedError, StoreUnavailableError: it may not.
        """
        return cls(command, await service.filing.begin(person, command.mailbox, command.size))

    async def take(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._failure is not None:
            return
        try:
            await self._appending.write(data)
        except StoreUnavailableError as error:
            self._failure = error
            await self._appending.abandon()

    async def file(self, rest: bytes) -> Answer:
        """File the message; ``rest`` is what followed it.

        Raises:
            GrammarError: something followed that has no place there.
            MailboxRefusedError, NotPermittedError, StoreUnavailableError: nothing was filed.
        """
        if self._failure is not None:
            raise self._failure
        if rest != (b")" if self._command.utf8 else b""):
            await self._appending.abandon()
            raise GrammarError("one message at a time")
        filed = await self._appending.file(self._command.flags, self._command.at)
        text = b"Filed already when it was accepted" if filed.already else b"Appended"
        return Answer(text=b"[APPENDUID %d %d] %b" % (filed.uid_validity, filed.uid, text))

    async def abandon(self) -> None:
        """Forget what came."""
        await self._appending.abandon()
