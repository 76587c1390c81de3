"""An event loop whose time a test owns, and time stamps under its thumb: for tests of batching."""

import asyncio
import selectors
from dataclasses import dataclass, field
from hashlib import sha256

from evidence.ports import TimestampUnavailableError
from evidence.stamps.ers import read_record, tree_root
from evidence.stamps.timestamps import TokenIssuer, build_request, read_request, read_token
from kephs.testpki.oids import TEST_TSA_POLICY
from tests.support.pki import NOW, shared_pki


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everybody waits, and then at once: no test sleeps."""

    def __init__(self):
        super().__init__(_Jump(self))
        self.now = 1000.0

    def time(self):
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout:
            self._loop.now += timeout
        assert timeout is not None, "everybody waits for ever"
        return super().select(0)


def run(main):
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(main)


def leaf(number):
    return sha256(str(number).encode()).digest()


@dataclass
class Stamps:
    """A `Timestamper` under the test's thumb: every request waits until it is answered or refused."""

    answer_after: float | None = None  # seconds; None: the test answers
    asked: list[bytes] = field(default_factory=list)
    open: list[asyncio.Future[None]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    cancelled: int = 0

    async def stamp(self, digest):
        self.asked.append(digest)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.answer_after is not None:
                await asyncio.sleep(self.answer_after)
                return token(digest)
            future = asyncio.get_running_loop().create_future()
            self.open.append(future)
            await future
            return token(digest)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1

    def answer(self):
        self.open.pop(0).set_result(None)

    def refuse(self, error=None):
        self.open.pop(0).set_exception(error or TimestampUnavailableError("both silent"))


def token(digest):
    """A TEST token without its proper signature: nobody looks at that here."""
    return _TOKENS.setdefault(digest, _make_token(digest))


_TOKENS: dict[bytes, bytes] = {}


def _make_token(digest):
    tsa = shared_pki().tsa
    issuer = TokenIssuer(tsa.certificate, tsa.chain, TEST_TSA_POLICY)
    draft = issuer.to_be_signed(read_request(build_request(digest, 5)), NOW, 7)
    return issuer.assemble(draft, b"\x30\x06\x02\x01\x01\x02\x01\x01")


def proves(record, digest):
    """Say whether a record leads from a digest to the imprint of its token."""
    (stamp,) = read_record(record).chains[0]
    imprint = read_token(stamp.token).info.imprint
    return tree_root(stamp.reduced, digest, "sha256") == imprint


async def spin(turns=10):
    for _ in range(turns):
        await asyncio.sleep(0)


async def arrive(group, stamper, *leaves):
    """Start a caller and let it get as far as it can."""
    task = group.create_task(stamper.records(leaves))
    await spin()
    return task
