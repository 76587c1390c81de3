"""Another provider's sealed dispatches at our inbound port, beside Postfix taking the same bytes.

The other provider is played here: its holders' letters, its evidence 10 and its seals are made before the
clock runs, with its TEST transaction certificate and tokens of the TEST authority made in this process.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from evidence.adapters.soft_signer import SoftSigner
from evidence.mail.package import Boundaries, Envelope, plan_dispatch, transfer_label
from evidence.model.records import Authentication, EvidenceKind, EvidenceRecord, Issuer, MessageFacts, Party
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import build_request, parse_response
from kephs.bench.figures import Figure, ticks
from kephs.bench.instance import Instance, serving
from kephs.bench.letters import LETTER_BYTES, Holder, Letters
from kephs.bench.postfix import Postfix
from kephs.bench.site import Site
from kephs.bench.submit import CONNECTIONS, FIRST, Metered
from kephs.bench.turns import Runner, each, take_turns
from kephs.bench.wire import SmtpClient
from kephs.bootstrap import open_register_folder
from kephs.cli.demo.register import pin_of, register_operator
from kephs.cli.providers.peers import describe_instance
from kephs.register_seal import make_register, register_entry
from kephs.testpki.authority import TestPki
from kephs.testpki.profiles import make_tckn

PEER: Final = "hs92.kep.tr"
SERVICE: Final = f"kep-hizmet@{PEER}"
_AHEAD: Final = 2.0
_PASSWORD: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105  # a URI
_NAME: Final = "TEST İkinci KEP Hizmet Sağlayıcısı A.Ş."


@dataclass(frozen=True, slots=True)
class _Stamps:
    """Tokens of the TEST authority without the network (an `evidence.ports.Timestamper`)."""

    pki: TestPki
    clock: Callable[[], datetime]

    async def stamp(self, digest: bytes) -> bytes:
        """Return a token over a digest."""
        request = build_request(digest, secrets.randbits(64))
        return parse_response(self.pki.timestamp_reply(request, self.clock()))


class Provider:
    """The other provider, as far as it makes dispatches."""

    def __init__(self, ours: Instance, clock: Callable[[], datetime]) -> None:
        pki = TestPki.load(ours.settings.test_pki.directory)
        issued = pki.transactions[PEER]
        self._clock = clock
        self._sealer = Sealer(SoftSigner(issued.key, issued.certificate, issued.chain), _Stamps(pki, clock))
        provider = ours.settings.provider
        self._issuer = Issuer(
            _NAME, SERVICE, provider.policy_id,
            provider.street, provider.locality, provider.postal_code, provider.country,
        )  # fmt: skip
        name, tckn = "TEST Ölçüm Gönderici", make_tckn(2000)
        holder = Holder(f"gonderici@{PEER}", "", pki.issue_user(name, tckn), name, tckn)
        self._sender, self._letters = Party(holder.address, holder.name), Letters(holder, clock)

    async def dispatches(self, to: str, count: int) -> list[bytes]:
        """Return so many sealed dispatches of different letters, as they go over the wire: dots stuffed."""
        made = [await self._dispatch(to, letter) for letter in self._letters.write_many(to, count)]
        return [dispatch.replace(b"\r\n.", b"\r\n..") for dispatch in made]

    async def _dispatch(self, to: str, letter: bytes) -> bytes:
        now, serial = self._clock(), secrets.token_hex(13)
        record = EvidenceRecord(
            kind=EvidenceKind.SUBMISSION_ACCEPTANCE,
            evidence_id=f"e{serial}@{PEER}",
            event_time=now,
            submission_time=now,
            issuer=self._issuer,
            sender=self._sender,
            recipients=(Party(to),),
            message=MessageFacts(
                "TEST", f"<{serial}@bench.test>", f"m{serial}@{PEER}", sha256(letter).digest()
            ),
            sender_authentication=Authentication(now, _PASSWORD, self._sender.name),
        )
        evidence = await self._sealer.seal(record)
        plan = plan_dispatch(
            Envelope(SERVICE, (to,)), evidence,
            label=transfer_label(has_8bit=not letter.isascii(), is_binary=False),
            boundaries=Boundaries.of(secrets.token_hex(16)),
        )  # fmt: skip
        digest = sha256(plan.entity_head + letter + plan.entity_tail).digest()
        p7s = await self._sealer.sign_entity(digest, now)
        return b"".join((plan.prefix, plan.entity_head, letter, plan.entity_tail, plan.suffix(p7s)))


@dataclass(slots=True)
class _Lane:
    """One connection and the dispatches that wait for it."""

    client: SmtpClient
    recipient: str
    stock: deque[bytes]

    async def work(self, deadline: float) -> int:
        """Hand over one after the other until the deadline; return how many were taken."""
        done = 0
        while self.stock and ticks() < deadline:
            await self.client.submit(SERVICE, self.recipient, self.stock.popleft())
            done += 1
        return done


class _Handing:
    """The other provider's connections to one server."""

    def __init__(self, provider: Provider, lanes: Sequence[_Lane]) -> None:
        self._provider, self._lanes = provider, lanes
        self._wanted = FIRST
        self.octets = 0

    async def before(self) -> None:
        """Make enough dispatches for a slice."""
        for lane in self._lanes:
            missing = self._wanted // len(self._lanes) + 1 - len(lane.stock)
            if missing > 0:
                lane.stock.extend(await self._provider.dispatches(lane.recipient, missing))
            self.octets = len(lane.stock[0])

    async def turn(self, deadline: float) -> int:
        """Hand over until the deadline; return how many were taken."""
        done = sum(await each([lane.work for lane in self._lanes], deadline))
        self._wanted = int(done * _AHEAD)
        return done


async def inbound(site: Site) -> list[Figure]:
    """Measure what the inbound role takes: seal, evidence and certificates checked, evidence 20 durable."""
    async with AsyncExitStack() as stack:
        operator = register_operator(stack.enter_context(site.room("o", 0o700)), site.clock())
        settings: dict[str, Any] = {"peers": {"register_signers": [pin_of(operator)]}}
        ours = await stack.enter_async_context(site.instance(settings))
        _introduce(ours, operator, stack.enter_context(site.room("r", 0o700)), site.clock())
        server = await stack.enter_async_context(serving(ours, ("inbound",)))
        peer = await stack.enter_async_context(site.postfix(ours))
        provider = Provider(ours, site.clock)
        people = ours.people[:CONNECTIONS]
        mine = _Handing(
            provider,
            [
                _Lane(await SmtpClient.connect_starttls(ours.inbound, stack), holder.address, deque())
                for holder in people
            ],
        )
        metered = Metered(mine, server)
        runners = [Runner(metered.turn, mine.before, metered.quiet)]
        if isinstance(peer, Postfix):
            others = _Handing(
                provider,
                [_Lane(await _greeted(peer, stack), holder.address, deque()) for holder in people],
            )
            runners.append(Runner(others.turn, others.before, peer.quiet))
        await take_turns(runners, site.seconds)
        more = {
            "connections": CONNECTIONS, "message_bytes": mine.octets, "letter_bytes": LETTER_BYTES,
            "messages": runners[0].done,
            "cpu_ms_each": round(1000 * metered.cpu / max(1, metered.done), 2),
            "note": "role inbound, STARTTLS, reused connections: the peer's seal and evidence verified, "
            "evidence 20 signed, stamped and durable before 250; deliveries wait",
        }  # fmt: skip
        beside = peer if isinstance(peer, str) else f"{peer.name}, TLS, queue file synced, then discarded"
        return [
            Figure(
                "inbound", runners[0].rate, "messages/s", runners[1].rate if len(runners) > 1 else None,
                beside, server.peak_rss_mb(), site.disk, more,
            )
        ]  # fmt: skip


async def _greeted(peer: Postfix, stack: AsyncExitStack) -> SmtpClient:
    client = await SmtpClient.connect(peer.place, stack)
    await client.hello(None)
    return client


def _introduce(ours: Instance, operator: SoftSigner, folder: Path, now: datetime) -> None:
    """Put the other provider into our register."""
    pki = TestPki.load(ours.settings.test_pki.directory)
    entry = register_entry(
        domain=PEER, name=_NAME, service_address=SERVICE, host="127.0.0.1", port=9,
        tls_certificates=[pki.issue_tls(PEER).certificate],
        transaction_certificates=[pki.transactions[PEER].certificate],
        max_message_mib=ours.settings.limits.max_elsewhere_mib, since=now,
    )  # fmt: skip
    content, signature = make_register(
        [describe_instance(ours.settings, since=now), entry], operator,
        sequence=1, issued_at=now, next_update=now + timedelta(days=1),
    )  # fmt: skip
    path = folder / "providers.json"
    path.write_bytes(content)
    path.with_name("providers.json.p7s").write_bytes(signature)
    open_register_folder(ours.settings, lambda: now).import_file(path)
