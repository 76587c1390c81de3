"""``kephs queue``: what is on its way to other providers: see it, hold it, release it, send it now.

Works while the server runs, which sees a change within seconds
(`kephs.worker.run.IDLE`). Addresses are shown:
this is the operator's terminal, not a log.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click

from config import settings
from evidence.model.records import NAMES
from kephs.cli.beside import open_beside
from kephs.cli.output import (
    FAILED,
    ExitError,
    guarded,
    instance_argument,
    json_option,
    print_facts,
    print_json,
    print_table,
    run,
)
from kephs.domain.lifecycle import TransferState
from kephs.domain.messages import Delivery, StoredEvidence, Transfer
from kephs.domain.relay import TROUBLES, RelayTrouble
from kephs.usecases.relay.queue import (
    Chosen,
    NoSuchTransferError,
    QueueAction,
    QueueChange,
    QueueDenial,
    QueueView,
    QueueWork,
    TransferView,
)

T = TypeVar("T")

DENIALS: Final[Mapping[QueueDenial, tuple[str, str]]] = MappingProxyType(
    {
        QueueDenial.NOT_QUEUED: (
            "it does not wait in the queue: only what does can be held",
            "sırada değil: yalnızca sırada bekleyen durdurulabilir",
        ),
        QueueDenial.NOT_HELD: ("it is not held", "durdurulmuş değil"),
        QueueDenial.HELD: (
            "it is held: release it with kephs queue release",
            "durdurulmuş: kephs queue release ile serbest bırakın",
        ),
        QueueDenial.NOTHING_TO_SEND: (
            "it is handed over already: there is nothing to send",
            "zaten aktarıldı: gönderilecek bir şey yok",
        ),
        QueueDenial.EVIDENCE_STANDS: (
            "evidence 31 stands: it was not handed over and never will be; the sender sends a new message",
            "31 numaralı delil geçerli: ileti aktarılmadı, artık aktarılmaz; gönderen yeni ileti gönderir",
        ),
        QueueDenial.NO_SUCH_TRANSFER: ("there is no such transfer", "böyle bir aktarım yok"),
    }
)
_TURKISH: Final[Mapping[TransferState, str]] = MappingProxyType(
    {
        TransferState.QUEUED: "sırada",
        TransferState.HELD: "durduruldu",
        TransferState.HANDED: "aktarıldı",
        TransferState.ANSWERED: "kabul edildi",
        TransferState.DONE: "bitti",
        TransferState.FAILED: "aktarılamadı",
    }
)
_LIMIT: Final = 100

peer_option = click.option("--peer", metavar="DOMAIN", help="Only what is on its way to this provider.")


@click.group()
def command() -> None:
    """What is on its way to other providers (aktarım sırası): list, show, hold, release, retry."""


@command.command("list")
@instance_argument
@peer_option
@click.option(
    "--state", type=click.Choice([state.value for state in TransferState]),
    help="Only what is in this state. Default: all that is not done.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 10_000), default=_LIMIT, show_default=True)
@json_option
@guarded
def list_(directory: Path, peer: str | None, state: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001  # click hands options by name
    """List transfers, oldest first, below counts per provider and state."""
    wanted = None if state is None else TransferState(state)
    view = _with_queue(directory, lambda queue: queue.view(peer=_domain(peer), state=wanted, limit=limit))
    if as_json:
        print_json({"counts": _counts(view), "transfers": [_facts(one) for one in view.transfers]})
        return
    _print_view(view)


@command.command()
@instance_argument
@click.argument("transfer_id", metavar="ID")
@json_option
@guarded
def show(directory: Path, transfer_id: str, as_json: bool) -> None:  # noqa: FBT001
    """Show one transfer: its message, each recipient's state, and the evidence there is."""
    view = _with_queue(directory, lambda queue: queue.show(transfer_id))
    if as_json:
        print_json(_whole(view))
        return
    _print_whole(view)


_CHOICE: Final = (
    instance_argument,
    click.argument("ids", metavar="[ID]...", nargs=-1),
    click.option("--message", "message_id", metavar="ID", help="All transfers of one message."),
    peer_option,
    click.option("--all", "everything", is_flag=True, help="Whatever provider it is for."),
    json_option,
)


def _choice(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that say which transfers are meant."""
    for option in reversed(_CHOICE):
        function = option(function)
    return function


@command.command()
@_choice
@guarded
def hold(
    directory: Path, ids: tuple[str, ...], message_id: str | None, peer: str | None, everything: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Keep transfers from being tried. Their deadline runs on: after it evidence 31 is made."""
    chosen = _chosen(ids, message_id, peer, everything=everything)
    _change(directory, QueueAction.HOLD, chosen, as_json=as_json)


@command.command()
@_choice
@guarded
def release(
    directory: Path, ids: tuple[str, ...], message_id: str | None, peer: str | None, everything: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Let held transfers go: they are tried at once."""
    chosen = _chosen(ids, message_id, peer, everything=everything)
    _change(directory, QueueAction.RELEASE, chosen, as_json=as_json)


@command.command()
@_choice
@guarded
def retry(
    directory: Path, ids: tuple[str, ...], message_id: str | None, peer: str | None, everything: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Try now what waits for its next try, and receipts again that could not be handed over."""
    chosen = _chosen(ids, message_id, peer, everything=everything)
    _change(directory, QueueAction.RETRY, chosen, as_json=as_json)


# --------------------------------------------------------------------------- shared


def _with_queue(directory: Path, work: Callable[[QueueWork], Awaitable[T]]) -> T:
    from kephs.bootstrap import open_times

    async def inside() -> T:
        async with open_beside(settings.load(directory)) as core:
            return await work(QueueWork(core.store, core.clock, open_times(core.settings)))

    try:
        return run(inside())
    except NoSuchTransferError as error:
        raise ExitError(
            "no-such-transfer", f"nothing is on its way under {error}", "see kephs queue list DIR"
        ) from None


def _chosen(ids: tuple[str, ...], message_id: str | None, peer: str | None, *, everything: bool) -> Chosen:
    if sum((bool(ids), message_id is not None, peer is not None, everything)) != 1:
        raise click.UsageError("say which: either IDs, or one of --message, --peer and --all")
    return Chosen(ids, message_id, _domain(peer))


def _domain(peer: str | None) -> str | None:
    return None if peer is None else peer.lower()


def _change(directory: Path, action: QueueAction, chosen: Chosen, *, as_json: bool) -> None:
    done = _with_queue(directory, lambda queue: queue.change(action, chosen))
    if as_json:
        print_json(
            {
                "action": action.value,
                "changed": [_facts(one) for one in done.changed],
                "denied": [
                    {"id": one, "code": why.value, "text": _both(DENIALS[why])} for one, why in done.denied
                ],
            }
        )
    else:
        _print_change(done)
    if done.denied and not done.changed:
        raise click.exceptions.Exit(FAILED)


def _print_change(done: QueueChange) -> None:
    click.echo(f"{len(done.changed)} changed / değişti")
    if done.changed:
        _print_transfers(done.changed)
    for one, why in done.denied:
        english, turkish = DENIALS[why]
        click.echo(f"{one}: {english} / {turkish} [{why.value}]", err=True)


def _print_view(view: QueueView) -> None:
    peers = sorted({peer for peer, _ in view.counts})
    if not peers:
        click.echo("nothing is on its way / yolda hiçbir şey yok")
        return
    heads = [f"{state.value} ({_TURKISH[state]})" for state in TransferState]
    rows = [[peer, *(str(view.counts.get((peer, state), 0)) for state in TransferState)] for peer in peers]
    print_table(("provider", *heads), rows)
    click.echo()
    if view.transfers:
        _print_transfers(view.transfers)


def _print_transfers(transfers: tuple[Transfer, ...]) -> None:
    rows = [
        [
            one.transfer_id, one.kind.value, one.peer, one.state.value, _time(one.created_at),
            str(one.attempts), _time(one.next_at), _time(one.deadline), one.cause or "-",
        ]
        for one in transfers
    ]  # fmt: skip
    print_table(("id", "what", "to", "state", "since", "tries", "next try", "deadline", "cause"), rows)
    for cause in sorted({one.cause for one in transfers} - {""}):
        click.echo(f"  {cause}: {_cause_text(cause)}")


def _print_whole(view: TransferView) -> None:
    facts = _facts(view.transfer) | {
        "sender": view.message.sender.address,
        "submitted": _time(view.message.submitted_at),
    }
    print_facts((name, "-" if value is None else str(value)) for name, value in facts.items())
    click.echo("\nrecipients / alıcılar")
    rows = [_recipient(one) for one in view.deliveries]
    columns = ("number", "address", "state", "decided_at", "evidence_id")
    print_table(columns, [["-" if row[c] is None else str(row[c]) for c in columns] for row in rows])
    click.echo("\nevidence / deliller")
    heads = ("kind", "number", "time", "made_by", "id", "event")
    listed = [_evidence(one) for one in view.evidence]
    print_table(heads, [["-" if row[c] is None else str(row[c]) for c in heads] for row in listed])


def _counts(view: QueueView) -> dict[str, dict[str, int]]:
    peers = sorted({peer for peer, _ in view.counts})
    return {
        peer: {state.value: view.counts.get((peer, state), 0) for state in TransferState} for peer in peers
    }


def _facts(transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.transfer_id,
        "kind": transfer.kind.value,
        "peer": transfer.peer,
        "state": transfer.state.value,
        "message_id": transfer.message_id,
        "evidence_id": transfer.evidence_id,
        "since": _time(transfer.created_at),
        "attempts": transfer.attempts,
        "next_at": _time(transfer.next_at) if transfer.next_at else None,
        "deadline": _time(transfer.deadline),
        "handed_at": _time(transfer.handed_at) if transfer.handed_at else None,
        "cause": transfer.cause or None,
        "cause_text": _cause_text(transfer.cause) if transfer.cause else None,
    }


def _whole(view: TransferView) -> dict[str, Any]:
    return _facts(view.transfer) | {
        "sender": view.message.sender.address,
        "submitted": _time(view.message.submitted_at),
        "recipients": [_recipient(one) for one in view.deliveries],
        "evidence": [_evidence(one) for one in view.evidence],
    }


def _recipient(delivery: Delivery) -> dict[str, Any]:
    return {
        "number": delivery.number,
        "address": delivery.address,
        "state": delivery.state.value,
        "decided_at": _time(delivery.decided_at) if delivery.decided_at else None,
        "evidence_id": delivery.evidence_id,
        "read_evidence_id": delivery.read_evidence_id,
    }


def _evidence(evidence: StoredEvidence) -> dict[str, Any]:
    names = NAMES[evidence.kind]
    return {
        "kind": evidence.kind.value,
        "event": f"{names.english} / {names.turkish}",
        "number": evidence.number,
        "time": _time(evidence.event_time),
        "made_by": evidence.origin,
        "id": evidence.evidence_id,
    }


def _cause_text(cause: str) -> str:
    try:
        facts = TROUBLES[RelayTrouble(cause)]
    except ValueError:  # written by another version of this program
        return cause
    return f"{facts.english} / {facts.turkish}"


def _both(texts: tuple[str, str]) -> str:
    return " / ".join(texts)


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"
