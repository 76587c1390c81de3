"""Wiring of a running instance: picks the implementation behind every port. Nothing else does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from config.settings import Settings, SettingsError, failpoint
from directory.providers import ProviderRegister
from evidence.adapters.revocation_http import HttpRevocation
from evidence.ports import Sealing
from evidence.x509.chain import TrustStore
from kephs.bootstrap.archive import ArchiveWork, open_archive, open_sealing_work
from kephs.bootstrap.ledger import PublicLedger, open_public_ledger
from kephs.bootstrap.opening import (
    open_courier,
    open_issuer,
    open_limits,
    open_register,
    open_scanner,
    open_some_trust,
    open_times,
)
from kephs.bootstrap.preservation import open_preservation
from kephs.bootstrap.sealing import (
    open_nes_policy,
    open_revocation,
    open_seal_policy,
    open_sealing,
)
from kephs.failpoints import (
    FailingBlobs,
    FailingSealing,
    FailingStore,
    Failpoint,
    failing_courier,
    failing_receive,
)
from kephs.instances.keys import Keys, open_keys
from kephs.observability.metered import Meter, MeteredCourier, MeteredSealing
from kephs.ports import BlobStore, Courier, Store
from kephs.system import (
    Argon2Passwords,
    HmacIdentity,
    LocalChanges,
    SystemClock,
    ThreadOffload,
    TimeOrderedIds,
)
from kephs.together import together
from kephs.usecases.archive.preserve import Preserve
from kephs.usecases.delivery.deliver import Deliver
from kephs.usecases.delivery.dispatch import DispatchMaker
from kephs.usecases.delivery.fresh import FreshEvidence
from kephs.usecases.delivery.kept_evidence import KeptEvidence
from kephs.usecases.delivery.read import Reader
from kephs.usecases.delivery.receipts import FileReceipts, ReceiptMaker
from kephs.usecases.mailbox.mailbox import MailboxService
from kephs.usecases.mailbox.tidy import Tidy
from kephs.usecases.people.accounts import AccountWork
from kephs.usecases.people.sign_in import SignIn
from kephs.usecases.records import RecordMaker
from kephs.usecases.relay.give_up import GiveUp
from kephs.usecases.relay.pass_refusal import PassRefusal
from kephs.usecases.relay.receive import Receive
from kephs.usecases.relay.relay import Relay, Wait
from kephs.usecases.relay.take_dispatch import TakeDispatch
from kephs.usecases.relay.take_receipt import TakeReceipt
from kephs.usecases.submission.signers import BindingRule
from kephs.usecases.submission.submit import Submit, SubmitSettings
from smtp_gateway.inbound_server import Receiving
from storage.files.blobs import FileBlobStore
from storage.unit_of_work import SqliteStore

MAIN_NODE: Final = "main"


@dataclass(frozen=True, slots=True)
class Core:
    """Everything an edge or a command may need of a running instance."""

    settings: Settings
    node: str  # names this process in leases
    store: Store
    blobs: BlobStore
    sealer: Sealing
    clock: SystemClock
    ids: TimeOrderedIds
    offload: ThreadOffload
    changes: LocalChanges
    trust: TrustStore
    revocation: HttpRevocation
    records: RecordMaker
    register: ProviderRegister
    submit: Submit
    receive: Receiving
    deliver: Deliver
    receipts: FileReceipts
    relay: Relay
    wait: Wait
    tidy: Tidy
    reader: Reader
    sign_in: SignIn
    accounts: AccountWork
    mailbox: MailboxService
    ledger: PublicLedger
    archive: ArchiveWork
    preserve: Preserve

    @property
    def shared_ports(self) -> bool:
        """Say whether other processes of the instance may listen on the same ports."""
        return bool(self.settings.storage.database_url)


@asynccontextmanager
async def open_core(
    settings: Settings,
    node: str = MAIN_NODE,
    *,
    meter: Meter | None = None,
    sealing: Sealing | None = None,
) -> AsyncIterator[Core]:
    """Open an instance: store, keys, clients of outside services; close them on leaving.

    Args:
        settings: of the instance.
        node: names the process among those that work on one database.
        meter: counts what it does.
        sealing: whoever seals, such as the signer's process; without it this process opens the key.

    Raises:
        SettingsError: something configured is missing or wrong; the text says what and the cure.
        SchemaError: the database is missing, unreadable, or not at this program's revision.
        StoreUnavailableError: another process writes here.
    """
    trust = open_some_trust(settings)
    async with AsyncExitStack() as stack:
        if sealing is None:
            sealing = await stack.enter_async_context(open_sealing(settings))
        yield await _open(settings, node, meter, sealing, trust, stack)


async def _open(
    settings: Settings,
    node: str,
    meter: Meter | None,
    sealing: Sealing,
    trust: TrustStore,
    stack: AsyncExitStack,
) -> Core:
    clock, offload = SystemClock(), ThreadOffload()
    stack.callback(offload.close)
    ids = TimeOrderedIds(clock)
    keys, register = open_keys(settings), open_register(settings, clock.now)
    session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
    store, blobs, changes = await _open_store(settings, keys, node, stack)
    sealer = sealing if meter is None else MeteredSealing(sealing, meter, clock)
    point = _failpoint()
    store, blobs, sealer = _with_failpoint(point, store, blobs, sealer)
    issuer = open_issuer(settings)
    records = RecordMaker(issuer, register.own, clock, ids)
    passwords, identity = Argon2Passwords(offload), HmacIdentity(keys.identity)
    revocation = open_revocation(settings, session, trust)
    shared = {"store": store, "blobs": blobs, "sealer": sealer, "changes": changes}
    limits, times, policy = open_limits(settings), open_times(settings), open_seal_policy(settings)
    scanner = open_scanner(settings)
    reader = Reader(**shared, records=records, register=register)  # type: ignore[arg-type]
    fresh = FreshEvidence()
    kept = KeptEvidence(store, blobs, sealer, offload, fresh)
    dispatches = DispatchMaker(store, blobs, sealer, records, offload, clock, ids, kept)
    receipts = ReceiptMaker(sealer, records, register, clock, ids)
    give_up = GiveUp(store, blobs, sealer, records, changes, clock, times)
    smtp = open_courier(settings, offload)
    stack.push_async_callback(smtp.close)
    ledger = open_public_ledger(settings, store, clock, session)
    archive = open_sealing_work(
        await open_archive(
            settings, store, keys.objects, trust, offload, stack, clock=clock, point=point
        ),
        blobs=blobs, sealer=sealer, revocation=revocation, publishing=ledger.publish, offload=offload,
        clock=clock,
    )  # fmt: skip
    courier: Courier = smtp if meter is None else MeteredCourier(smtp, meter)
    return Core(
        settings=settings, node=node, store=store, blobs=blobs, sealer=sealer, clock=clock, ids=ids,
        offload=offload, changes=changes, trust=trust, revocation=revocation, records=records,
        register=register,
        submit=Submit(
            store=store, blobs=blobs, sealer=sealer, revocation=revocation, scanner=scanner,
            identity=identity, offload=offload, clock=clock, ids=ids, changes=changes, trust=trust,
            settings=SubmitSettings(
                issuer, register, limits, open_nes_policy(settings), times,
                BindingRule(settings.trust.certificate_binding),
            ),
            fresh=fresh, together=together,
        ),
        receive=failing_receive(point, Receive(
            dispatches=TakeDispatch(
                store, blobs, sealer, records, scanner, register, limits, offload, changes, ids
            ),
            receipts=TakeReceipt(
                store, blobs, changes, clock, times, register.own, PassRefusal(blobs, sealer, records)
            ),
            revocation=revocation, offload=offload, clock=clock, trust=trust, policy=policy,
            register=register,
        )),
        deliver=Deliver(store, sealer, records, dispatches, receipts, register, changes),
        receipts=FileReceipts(store, blobs, receipts, kept, clock, ids, changes, times),
        relay=Relay(
            store, blobs, dispatches, records, register, failing_courier(point, courier), give_up,
            offload, clock, times,
        ),
        wait=Wait(store, give_up, register, clock),
        tidy=Tidy(store=store, blobs=blobs, clock=clock),
        reader=reader,
        sign_in=SignIn(store=store, passwords=passwords, clock=clock, register=register),
        accounts=AccountWork(
            store=store, identity=identity, passwords=passwords, clock=clock, ids=ids, register=register
        ),
        mailbox=MailboxService(
            store=store, blobs=blobs, reader=reader, changes=changes, offload=offload, clock=clock
        ),
        ledger=ledger,
        archive=archive,
        preserve=open_preservation(archive.parts, revocation),
    )  # fmt: skip


async def _open_store(
    settings: Settings, keys: Keys, node: str, stack: AsyncExitStack
) -> tuple[Store, BlobStore, LocalChanges]:
    blobs = FileBlobStore(settings.storage.blobs, master_key=keys.blobs, writer=node)
    await blobs.start()
    stack.push_async_callback(blobs.close)
    url = settings.storage.database_url
    if not url:
        store = SqliteStore(settings.storage.database, column_key=keys.columns)
        await store.start()
        stack.push_async_callback(store.close)
        return store, blobs, LocalChanges()
    from kephs.instances.postgres_changes import PostgresChanges  # noqa: PLC0415  # psycopg: the cluster profile's alone
    from storage.postgres.store import PostgresStore  # noqa: PLC0415

    shared, changes = PostgresStore(url, column_key=keys.columns), PostgresChanges(url)
    await shared.start()
    stack.push_async_callback(shared.close)
    await changes.start()
    stack.push_async_callback(changes.close)
    return shared, blobs, changes


def _failpoint() -> Failpoint | None:
    """Return where this process is to die (fault tests only)."""
    try:
        return Failpoint(wanted) if (wanted := failpoint()) else None
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _with_failpoint(
    point: Failpoint | None, store: Store, blobs: BlobStore, sealer: Sealing
) -> tuple[Store, BlobStore, Sealing]:
    if point is None:
        return store, blobs, sealer
    return FailingStore(store, point), FailingBlobs(blobs, point), FailingSealing(sealer, point)
