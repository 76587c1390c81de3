"""Two providers on disk, hs91 and hs92, that know each other: each reaches the other through a proxy."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kephs.bootstrap import open_register_folder, read_seal
from kephs.cli.demo.register import pin_of, register_operator
from kephs.register_seal import make_register, register_entry
from tests.faults.crowd import Crowd
from tests.faults.letters import Kind, Letter, write_letter
from tests.faults.told import Told
from tests.faults.two_books import TwoBooks, two_differences
from tests.support.crash import ALL_ROLES, Provider, Server, now, quiet_port, until
from tests.support.proxy import Proxy

PEER = "hs92.kep.tr"
LONG = 3_600.0  # seconds: nobody is given up while a test runs
RELAY = {
    "first_retry_seconds": 0.2, "longest_retry_seconds": 0.5, "give_up_seconds": LONG,
    "no_answer_seconds": LONG, "no_delivery_info_seconds": LONG, "receipts_seconds": LONG,
    "connect_seconds": 5.0,
}  # fmt: skip
MIX = {Kind.PLAIN: 13, Kind.BIG: 1, Kind.TO_MANY: 3, Kind.TO_NOBODY: 2, Kind.UNSIGNED: 1}  # so many each


class Pair:
    """Both providers, their people, the register that lets them know each other, and all that was told."""

    def __init__(self, folder: Path) -> None:
        self._register = folder / "register"
        folder.mkdir(parents=True, exist_ok=True)
        self._operator = register_operator(self._register, now())
        values: dict[str, Any] = {
            "peers": {"register_signers": [pin_of(self._operator)]}, "relay": dict(RELAY),
        }  # fmt: skip
        self.here = Provider(folder / "1", ("ayse", "mehmet"), values=values, roles=ALL_ROLES)
        try:
            self.there = Provider(
                folder / "2",
                ("fatma", "zeynep"),
                domain=PEER,
                beside=self.here,
                values=values,
                roles=ALL_ROLES,
            )
            self.ports = {provider.domain: quiet_port() for provider in self.both}
            self._issue = 0
            self.publish()
        except BaseException:
            self.close()
            raise
        self.told = Told()
        self.agreed = True  # the last comparison found no difference

    def close(self) -> None:
        """End every process of them."""
        self.here.close()

    @property
    def both(self) -> tuple[Provider, Provider]:
        return self.here, self.there

    def other(self, provider: Provider) -> Provider:
        return self.there if provider is self.here else self.here

    def publish(self, more: Iterable[Mapping[str, object]] = ()) -> None:
        """Give both the register: each other, and ``more`` entries."""
        self._issue += 1
        since = now()
        entries = [*(self.entry(one, self.ports[one.domain]) for one in self.both), *more]
        content, signature = make_register(
            entries,
            self._operator,
            sequence=self._issue,
            issued_at=since,
            next_update=since.replace(year=since.year + 1),
        )
        path = self._register / "providers.json"
        path.write_bytes(content)
        path.with_name("providers.json.p7s").write_bytes(signature)
        for one in self.both:
            open_register_folder(one.settings, now).import_file(path)

    def entry(self, one: Provider, port: int) -> dict[str, object]:
        """Return how the register names a provider that is reached at a port."""
        tls = x509.load_pem_x509_certificate(one.settings.network.tls_certificate.read_bytes())
        return register_entry(
            domain=one.domain, name=one.settings.provider.legal_name,
            service_address=one.settings.provider.service_address, host="127.0.0.1", port=port,
            tls_certificates=[tls.public_bytes(serialization.Encoding.DER)],
            transaction_certificates=[read_seal(one.settings).certificate],
            max_message_mib=one.settings.limits.max_elsewhere_mib, since=now(),
        )  # fmt: skip

    # --- letters --------------------------------------------------------------------------------

    def letters(self, provider: Provider, choice: random.Random) -> Iterator[Letter]:
        """Write letters of one provider's people without end, most of them to the other's."""
        number = 0
        while True:
            number += 1
            yield self.letter(provider, choice.choices(list(MIX), list(MIX.values()))[0], choice, number)

    def letter(
        self, provider: Provider, kind: Kind, choice: random.Random, number: int = 0, *, to: str = ""
    ) -> Letter:
        """Write one letter of one of a provider's people; ``to`` an address or a domain, if given."""
        sender = choice.choice(list(provider.people.values()))
        elsewhere = [holder.address for holder in self.other(provider).people.values()]
        others = [h.address for h in provider.people.values() if h is not sender]
        if kind is not Kind.TO_MANY and choice.random() < 0.8:
            others = elsewhere
        elif kind is not Kind.TO_NOBODY:
            others += elsewhere
        if to:
            others = [a for one in self.both for a in one.addresses if a.endswith(to)] or [to]
        nobody = f"yok@{choice.choice(self.both).domain}"
        return write_letter(number, kind, sender, others, choice, nobody)

    # --- running --------------------------------------------------------------------------------

    @asynccontextmanager
    async def wires(self) -> AsyncIterator[dict[str, Proxy]]:
        """Run both proxies: by the domain they lead to."""
        async with AsyncExitStack() as stack:
            proxies = {
                one.domain: Proxy(self.ports[one.domain], one.settings.network.inbound_port)
                for one in self.both
            }
            for proxy in proxies.values():
                await stack.enter_async_context(proxy)
            yield proxies

    @asynccontextmanager
    async def crowds(self, seed: object, *, always: bool = False) -> AsyncIterator[dict[str, Crowd]]:
        """Let everybody's clients loose, by provider; they note all they are told."""
        async with AsyncExitStack() as stack:
            made = {}
            for one in self.both:
                choice = random.Random(f"{seed} {one.domain}")
                crowd = Crowd(
                    one, self.letters(one, choice), self.told, choice.randrange(1 << 32), always=always
                )
                made[one.domain] = await stack.enter_async_context(crowd)
            yield made

    @asynccontextmanager
    async def up(self, crowds: Mapping[str, Crowd]) -> AsyncIterator[list[Server]]:
        """Run both servers, and tell their crowds."""
        async with AsyncExitStack() as stack:
            servers = []
            for one in self.both:
                server = await stack.enter_async_context(await one.start())
                servers.append(server)
                crowds[one.domain].meet(server)
            yield servers
        for crowd in crowds.values():
            crowd.part()

    # --- judging --------------------------------------------------------------------------------

    def work_due(self) -> int:
        """Return how much waits at both; 0 only if there was a moment without any."""
        return self.here.work_due() + self.there.work_due() + self.here.work_due()

    def inboxes(self) -> dict[str, int]:
        """Return how many messages lie in each INBOX."""
        query = (
            "SELECT address, (SELECT count(*) FROM items WHERE items.folder_id = folders.folder_id)"
            " FROM folders JOIN accounts USING (account_id) WHERE role = 'inbox'"
        )
        return {address: count for one in self.both for address, count in one.rows(query)}

    async def quiet(self, crowds: Mapping[str, Crowd], servers: Iterable[Server]) -> None:
        """Wait until all is answered, delivered, read and reported."""

        def over() -> bool:
            dead = [server.pid for server in servers if server.died.is_set()]
            assert not dead, "a server died by itself"
            if self.work_due():
                return False
            inboxes = self.inboxes()
            return all(crowd.caught_up(inboxes) for crowd in crowds.values()) and not self.work_due()

        for crowd in crowds.values():
            await crowd.settled()
        await until(over, "quiet", again=0.05)

    async def agree(
        self,
        crowds: Mapping[str, Crowd],
        servers: Iterable[Server],
        *,
        strict: bool = True,
        deep: bool = False,
    ) -> None:
        """Once all is quiet, compare the books with each other and with what clients know; and fsck."""
        await self.quiet(crowds, servers)
        found = two_differences(self.told, TwoBooks.read(*self.both), strict=strict)
        found += [*self.broken_promises(), *self.failed(strict=strict)]
        assert not found, "\n".join(found[:50])
        await self.fsck(deep=deep)

    async def fsck(self, *, deep: bool = False) -> None:
        """Check both stores."""
        results = await asyncio.gather(*(one.fsck(deep=deep) for one in self.both))
        assert results == ["", ""]
        self.agreed = True

    def failed(self, *, strict: bool) -> list[str]:
        """Return transfers that were given up: never one of a receipt, of a dispatch only where 31 says so."""
        query = (
            "SELECT kind, message_id, cause FROM transfers WHERE state = 'failed' AND (kind = 'receipt' OR ?)"
        )
        return [
            f"{one.domain} gave up a {kind} of {message_id}: {cause}"
            for one in self.both
            for kind, message_id, cause in one.rows(query, strict)
        ]

    def broken_promises(self) -> list[str]:
        """Return what one of them has noted as handed over, and the other has not: at any moment none."""
        found = []
        for one in self.both:
            theirs = self.other(one)
            query = (
                "SELECT kind, message_id, evidence_id FROM transfers WHERE handed_at IS NOT NULL AND peer = ?"
            )
            handed = one.rows(query, theirs.domain)
            messages = {m for (m,) in theirs.rows("SELECT message_id FROM messages")}
            evidence = {e for (e,) in theirs.rows("SELECT evidence_id FROM evidence")}
            for kind, message_id, evidence_id in handed:
                has = message_id in messages if kind == "dispatch" else evidence_id in evidence
                if not has:
                    found.append(
                        f"{one.domain} handed over a {kind} of {message_id} that {theirs.domain} lacks"
                    )
        accepted = set(self.told.accepted.values())
        rows = [row for one in self.both for row in one.rows(
            "SELECT evidence_id, message_id FROM evidence WHERE kind = 10 AND origin IS NULL"
        )]  # fmt: skip
        return [*found, *(f"told and lost: {message_id}" for _, message_id in accepted - set(rows))]
