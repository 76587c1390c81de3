"""A running server follows the trust list: what two persons approved counts, what one retired does not.

Each process of an instance looks every half minute (a change is made by a command, in another process). What
cannot be read is not taken over: the list read last stays, and the log says so each time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from evidence.x509.certificates import CertificateError
from evidence.x509.chain import TrustStore
from kephs.ports import Store
from kephs.usecases.governance.trust_list import active
from storage.files.survey import UNREADABLE

EVERY_SECONDS: Final = 30.0
log = structlog.get_logger()


class TrustWatch:
    """Keeps a store of trusted certificates equal to the trust list.

    Args:
        store: of the instance.
        trust: what everybody in the process checks with; changed in place.
        helpers: intermediates of the configured folder, DER; they complete paths and are never trusted.
        changed: called after a change, for those who have a copy (the signer).
        every: seconds between two looks.
    """

    def __init__(
        self, store: Store, trust: TrustStore, helpers: Callable[[], list[bytes]],
        changed: Callable[[], None], *, every: float = EVERY_SECONDS,
    ) -> None:  # fmt: skip
        self._store, self._trust, self._helpers = store, trust, helpers
        self._changed, self._every = changed, every

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until told to stop."""
        while not stopping.is_set():
            await self.look()
            try:
                async with asyncio.timeout(self._every):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def look(self) -> bool:
        """Compare once; say whether something was changed."""
        try:
            roots, others = active(await self._store.read(lambda tx: list(tx.anchors.all())))
            intermediates = [*others, *await asyncio.to_thread(self._helpers)]
            if not self._differs(roots, intermediates):
                return False
            self._trust.renew(roots, intermediates)
        except (*UNREADABLE, CertificateError) as error:
            log.error("trust.unreadable", cause=type(error).__name__)  # noqa: TRY400  # kephs fsck says more
            return False
        except Exception as error:  # noqa: BLE001  # a look that fails must not end the server
            log.warning("trust.not_read", cause=str(error))
            return False
        log.info("trust.renewed", roots=len(roots), intermediates=len(intermediates))
        self._changed()
        return True

    def _differs(self, roots: list[bytes], intermediates: list[bytes]) -> bool:
        now = {facts.der for facts in self._trust.roots}
        helping = {facts.der for facts in self._trust.intermediates}
        return now != set(roots) or helping != set(intermediates) - set(roots)
