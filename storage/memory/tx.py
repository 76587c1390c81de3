"""Repositories of the in-memory twin: accounts, content rows, messages, deliveries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from directory.accounts import Account, AccountState, AppPassword, Operator
from directory.certificates import BoundCertificate
from kephs.domain.lifecycle import DeliveryState, MessageState, TransferState
from kephs.domain.messages import Delivery, Submission
from kephs.ports import Blob, Ending
from storage.errors import ConflictError
from storage.memory.holds import held_digests
from storage.memory.tables import Tables


class MemoryAccounts:
    """`kephs.ports.Accounts` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, account: Account) -> None:
        """Open an account; addresses are never given twice (KEP-CL-05)."""
        if account.account_id in self._t.accounts or self.by_address(str(account.address)):
            raise ConflictError("the account's id or address is taken")
        self._t.accounts.put(account.account_id, account)

    def get(self, account_id: str) -> Account | None:
        """Return an account."""
        return self._t.accounts.get(account_id)

    def by_address(self, address: str) -> Account | None:
        """Return the account that has or had this address."""
        return self.by_addresses((address,)).get(address)

    def by_addresses(self, addresses: Sequence[str]) -> dict[str, Account]:
        """Return the accounts of those addresses that somebody has."""
        wanted = set(addresses)
        return {str(a.address): a for a in self._t.accounts.values() if str(a.address) in wanted}

    def all(self) -> list[Account]:
        """Return every account, by id."""
        return sorted(self._t.accounts.values(), key=lambda a: a.account_id)

    def set_state(self, account_id: str, state: AccountState, at: datetime) -> None:
        """Change an account's state."""
        self._t.accounts.put(account_id, replace(self._t.accounts[account_id], state=state, state_since=at))

    def add_usage(self, account_id: str, delta: int) -> None:
        """Change an account's usage by so many bytes."""
        account = self._t.accounts[account_id]
        self._t.accounts.put(account_id, replace(account, used_bytes=account.used_bytes + delta))

    def add_operator(self, operator: Operator) -> None:
        """Add a person who acts for an account."""
        if operator.operator_id in self._t.operators or operator.account_id not in self._t.accounts:
            raise ConflictError("the operator's id is taken or the account does not exist")
        self._t.operators.put(operator.operator_id, operator)

    def operators(self, account_id: str) -> list[Operator]:
        """Return the persons who act for an account, by id."""
        found = (o for o in self._t.operators.values() if o.account_id == account_id)
        return sorted(found, key=lambda o: o.operator_id)

    def operator(self, operator_id: str) -> Operator | None:
        """Return one person."""
        return self._t.operators.get(operator_id)

    def add_password(self, password: AppPassword) -> None:
        """Add an app password."""
        if (
            password.account_id,
            password.password_id,
        ) in self._t.passwords or password.operator_id not in self._t.operators:
            raise ConflictError("the password's id is taken or the operator does not exist")
        self._t.passwords.put((password.account_id, password.password_id), password)

    def passwords(self, account_id: str) -> list[AppPassword]:
        """Return the app passwords of an account that are not revoked, by id."""
        found = (p for p in self._t.passwords.values() if p.account_id == account_id and not p.revoked_at)
        return sorted(found, key=lambda p: p.password_id)

    def revoke_password(self, account_id: str, password_id: str, at: datetime) -> bool:
        """Revoke an app password; False where it is unknown or was revoked before."""
        password = self._t.passwords.get((account_id, password_id))
        if password is None or password.revoked_at is not None:
            return False
        self._t.passwords.put((account_id, password_id), replace(password, revoked_at=at))
        return True

    def certificates(self, account_id: str) -> list[BoundCertificate]:
        """Return an account's certificates, also withdrawn ones, oldest binding first."""
        return [c for c in self._t.certificates.values() if c.account_id == account_id]

    def add_certificate(self, one: BoundCertificate) -> None:
        """Bind a certificate."""
        if one.account_id not in self._t.accounts or one.operator_id not in self._t.operators:
            raise ConflictError("the account or the operator does not exist")
        if one.withdrawn_at is None and self._bound(one.account_id, one.sha256) is not None:
            raise ConflictError("the certificate is bound to the account")
        self._t.certificates.put(len(self._t.certificates) + 1, one)

    def withdraw_certificate(self, account_id: str, sha256: bytes, at: datetime, by: str) -> bool:
        """Withdraw a bound certificate; False where it is not bound."""
        number = self._bound(account_id, sha256)
        if number is None:
            return False
        row = replace(self._t.certificates[number], withdrawn_at=at, withdrawn_by=by)
        self._t.certificates.put(number, row)
        return True

    def set_seals_allowed(self, account_id: str, allowed: bool) -> None:  # noqa: FBT001  # the port's
        """Say whether qualified seals may sign."""
        self._t.accounts.put(account_id, replace(self._t.accounts[account_id], seals_allowed=allowed))

    def _bound(self, account_id: str, sha256: bytes) -> int | None:
        """Return the number of a bound certificate."""
        for number in self._t.certificates:
            one = self._t.certificates[number]
            if (one.account_id, one.sha256, one.withdrawn_at) == (account_id, sha256, None):
                return number
        return None

    def survey_certificates(self) -> Iterator[BoundCertificate]:
        """Yield every bound certificate, oldest first (asked by fsck)."""
        yield from self._t.certificates.values()

    def survey(self) -> Iterator[Account]:
        """Yield every account, by id (asked by fsck)."""
        yield from self.all()

    def survey_persons(self) -> Iterator[Operator | AppPassword]:
        """Yield every operator, then every app password (asked by fsck)."""
        yield from sorted(self._t.operators.values(), key=lambda o: o.operator_id)
        yield from sorted(self._t.passwords.values(), key=lambda p: (p.account_id, p.password_id))


class MemoryBlobs:
    """`kephs.ports.Blobs` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, blob: Blob, index: bytes | None = None) -> None:
        """Name content, a message's with its index; a digest that is named keeps what it has."""
        if blob.sha256 not in self._t.blobs:
            self._t.blobs.put(blob.sha256, blob)
        if index is not None:
            self.set_index(blob.sha256, index)

    def add_all(self, contents: Sequence[tuple[Blob, bytes | None]]) -> None:
        """Name several pieces of content, each as `add` does."""
        for blob, index in contents:
            self.add(blob, index)

    def get(self, sha256: bytes) -> Blob | None:
        """Return where content lies."""
        return self._t.blobs.get(sha256)

    def get_all(self, digests: Sequence[bytes]) -> dict[bytes, Blob]:
        """Return where several pieces of content lie, by digest."""
        return {digest: self._t.blobs[digest] for digest in digests if digest in self._t.blobs}

    def set_index(self, sha256: bytes, index: bytes) -> None:
        """Keep a message's index, once: later calls change nothing."""
        if sha256 not in self._t.indexes and sha256 in self._t.blobs:
            self._t.indexes.put(sha256, index)

    def index(self, sha256: bytes) -> bytes | None:
        """Return a message's index."""
        return self._t.indexes.get(sha256)

    def release_unused(self, limit: int) -> list[Blob]:
        """Drop rows that nothing refers to; see `storage.rows.blobs` for what counts as a reference."""
        kept = {item.item.sha256 for item in self._t.items.values()}
        used = kept | held_digests(self._t)
        used.update(e.blob for e in self._t.evidence.values())
        for message in self._t.messages.values():
            used.add(message.material or b"")
            if message.state is MessageState.ACCEPTED:
                used.update((message.digest_sha256, message.dispatch or b""))
            elif message.account_id is not None and message.digest_sha256 in kept:
                used.add(message.dispatch or b"")
        used.update(t.blob or b"" for t in self._t.transfers.values() if t.state is not TransferState.DONE)
        loose = [blob for blob in self._t.blobs.values() if blob.sha256 not in used][:limit]
        for blob in loose:
            self._t.blobs.drop(blob.sha256)
            if blob.sha256 in self._t.indexes:
                self._t.indexes.drop(blob.sha256)
        return loose

    def all(self) -> Iterable[Blob]:
        """Return every row, by digest."""
        return sorted(self._t.blobs.values(), key=lambda b: b.sha256)


class MemoryMessages:
    """`kephs.ports.Messages` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, message: Submission) -> None:
        """Store a submission."""
        homeless = message.account_id is not None and message.account_id not in self._t.accounts
        if message.message_id in self._t.messages or homeless:
            raise ConflictError("the message's id is taken or its account does not exist")
        if (
            message.state is not MessageState.REFUSED
            and message.account_id is not None
            and message.user_message_id is not None
            and self.accepted_with(message.account_id, message.user_message_id)
        ):
            raise ConflictError("the account's Message-ID was accepted before")
        self._t.messages.put(message.message_id, message)

    def get(self, message_id: str) -> Submission | None:
        """Return a submission."""
        return self._t.messages.get(message_id)

    def accepted_with(self, account_id: str, user_message_id: str) -> Submission | None:
        """Return the message accepted under this Message-ID."""
        for message in self._t.messages.values():
            if (
                message.account_id == account_id
                and message.user_message_id == user_message_id
                and message.state is not MessageState.REFUSED
            ):
                return message
        return None

    def name_dispatches(self, dispatches: Mapping[str, bytes]) -> set[str]:
        """Note the digests of KEP messages; return the ids of those whose digest stands."""
        for message_id, digest in dispatches.items():
            row = self._t.messages[message_id]
            if row.dispatch is None:
                self._t.messages.put(message_id, replace(row, dispatch=digest))
        return {key for key, digest in dispatches.items() if self._t.messages[key].dispatch == digest}

    def dispatches(self, message_ids: Sequence[str]) -> dict[str, Blob]:
        """Return the KEP messages that were noted for some messages, by message id."""
        rows = [row for row in map(self._t.messages.get, message_ids) if row is not None]
        return {
            row.message_id: self._t.blobs[row.dispatch]
            for row in rows if row.dispatch is not None and row.dispatch in self._t.blobs
        }  # fmt: skip

    def states(self, message_ids: Sequence[str]) -> dict[str, MessageState]:
        """Return the states of several messages, by id."""
        return {key: self._t.messages[key].state for key in message_ids if key in self._t.messages}

    def set_states(self, message_ids: Sequence[str], state: MessageState) -> None:
        """Change the states of messages, and end the work of completed ones."""
        for message_id in message_ids:
            self._t.messages.put(message_id, replace(self._t.messages[message_id], state=state))
            if state is MessageState.COMPLETED:
                self.due(message_id, None, 0)

    def due(self, message_id: str, at: datetime | None, attempts: int) -> None:
        """Set when the message's work is due, None when nothing is; ends the lease."""
        self._t.lease("messages", message_id, None)
        row = replace(self._t.messages[message_id], next_at=at, attempts=attempts)
        self._t.messages.put(message_id, row)

    def claim(self, now: datetime, limit: int, lease_until: datetime, by: str) -> list[Submission]:
        """Return due messages, earliest first, each due again at the end of its lease."""
        due = sorted(
            (m.next_at, m.message_id) for m in self._t.messages.values() if m.next_at and m.next_at <= now
        )
        claimed = [replace(self._t.messages[key], next_at=lease_until) for _, key in due[:limit]]
        for message in claimed:
            self._t.messages.put(message.message_id, message)
            self._t.lease("messages", message.message_id, by)
        return claimed

    def take_over(self, by: str, now: datetime) -> None:
        """Make due now what ``by`` had leased."""
        for key in self._t.leased("messages", by):
            self.due(key, now, self._t.messages[key].attempts)

    def next_due(self) -> datetime | None:
        """Return when the next work is due."""
        return min((m.next_at for m in self._t.messages.values() if m.next_at), default=None)

    def all(self) -> Iterable[Submission]:
        """Return every submission, by id."""
        return sorted(self._t.messages.values(), key=lambda m: m.message_id)

    def survey(self) -> Iterator[Submission]:
        """Yield every submission, by id (asked by fsck)."""
        yield from self.all()


class MemoryDeliveries:
    """`kephs.ports.Deliveries` in memory."""

    def __init__(self, tables: Tables) -> None:
        self._t = tables

    def add(self, delivery: Delivery) -> None:
        """Store a delivery."""
        taken = any(d.number == delivery.number for d in self.of_message(delivery.message_id))
        if taken or delivery.delivery_id in self._t.deliveries or delivery.message_id not in self._t.messages:
            raise ConflictError("the delivery exists or its message does not")
        self._t.deliveries.put(delivery.delivery_id, delivery)

    def get(self, delivery_id: str) -> Delivery | None:
        """Return a delivery."""
        return self._t.deliveries.get(delivery_id)

    def of_message(self, message_id: str) -> list[Delivery]:
        """Return a message's deliveries by recipient number."""
        found = (d for d in self._t.deliveries.values() if d.message_id == message_id)
        return sorted(found, key=lambda d: d.number)

    def of_messages(self, message_ids: Sequence[str]) -> dict[str, list[Delivery]]:
        """Return the deliveries of several messages, each message's by recipient number."""
        return {message_id: self.of_message(message_id) for message_id in message_ids}

    def decide_all(self, endings: Sequence[Ending]) -> set[str]:
        """Move pending deliveries to their end states; return the ids of those that nobody moved before."""
        rows = ((one, self._t.deliveries.get(one.delivery_id)) for one in endings)
        pending = [(one, row) for one, row in rows if row is not None and row.state is DeliveryState.PENDING]
        for one, row in pending:
            account = one.account_id or row.account_id
            done = replace(
                row, state=one.state, evidence_id=one.evidence_id, decided_at=one.at, account_id=account
            )
            self._t.deliveries.put(one.delivery_id, done)
        return {one.delivery_id for one, _ in pending}

    def move(
        self,
        delivery_id: str,
        before: DeliveryState,
        after: DeliveryState,
        evidence_id: str | None,
        at: datetime,
    ) -> bool:
        """Change the state of a peer's recipient; False where the state was not ``before``."""
        row = self._t.deliveries.get(delivery_id)
        if row is None or row.peer is None or row.state is not before:
            return False
        row = replace(row, state=after)
        if evidence_id not in (None, row.evidence_id):
            row = replace(row, evidence_id=evidence_id, decided_at=at)
        self._t.deliveries.put(delivery_id, row)
        return True

    def read(self, delivery_id: str, evidence_id: str) -> bool:
        """Note the first reading of a delivered message; False where it was noted before."""
        row = self._t.deliveries.get(delivery_id)
        if row is None or row.state is not DeliveryState.DELIVERED or row.read_evidence_id is not None:
            return False
        row = replace(row, state=DeliveryState.READ, read_evidence_id=evidence_id)
        self._t.deliveries.put(delivery_id, row)
        return True

    def read_elsewhere(self, delivery_id: str, evidence_id: str) -> bool:
        """Note a peer's 60 whatever the state is; False where one was noted before."""
        row = self._t.deliveries.get(delivery_id)
        if row is None or row.read_evidence_id is not None:
            return False
        self._t.deliveries.put(delivery_id, replace(row, read_evidence_id=evidence_id))
        return True

    def survey(self, message_ids: Sequence[str]) -> Iterator[Delivery]:
        """Yield the deliveries of some messages (asked by fsck)."""
        for message_id in message_ids:
            yield from self.of_message(message_id)

    def strays(self) -> Iterator[Delivery]:
        """Yield the deliveries whose message is gone, by id (asked by fsck)."""
        found = (d for d in self._t.deliveries.values() if d.message_id not in self._t.messages)
        yield from sorted(found, key=lambda d: d.delivery_id)
