"""The object store's twin in memory, under the same contract tests."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from kephs.ports.objects import (
    ObjectDamagedError,
    ObjectError,
    ObjectRef,
    ProbeReport,
    check_name,
    whole_second,
)
from storage.objects.folders import Digests, version_of
from storage.objects.probe import probe_port


class MemoryObjectStore:
    """`kephs.ports.objects.ObjectStore` in memory.

    Args:
        clock: dates the objects of a probe.
    """

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.contents: dict[str, bytes] = {}
        """Octets by name; tests spoil them here."""
        self._refs: dict[str, ObjectRef] = {}

    async def put(self, name: str, data: bytes, retain_until: datetime) -> ObjectRef:
        """Write an object once (`ObjectStore.put`)."""
        check_name(name)
        made = _digests(data)
        ref = made.ref(name, version_of(made.sha256), whole_second(retain_until))
        there = self._refs.get(name)
        if there is None:
            self.contents[name] = bytes(data)
        else:
            if (there.sha256, there.sha512) != (ref.sha256, ref.sha512):
                raise ObjectError(f"{name}: other octets stand under this name")
            self._content(there)
            ref = max(there, ref, key=lambda one: one.retain_until)
        self._refs[name] = ref
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """Return that version (`ObjectStore.get`)."""
        return self._content(ref)

    async def check(self, ref: ObjectRef) -> None:
        """Check that version (`ObjectStore.check`)."""
        self._content(ref)

    async def list(self, prefix: str) -> AsyncIterator[ObjectRef]:
        """Yield every object whose name begins so (`ObjectStore.list`)."""
        for name in sorted(self._refs):
            if name.startswith(prefix):
                yield self._refs[name]

    async def extend(self, ref: ObjectRef, retain_until: datetime) -> ObjectRef:
        """Keep that version longer (`ObjectStore.extend`)."""
        self._content(ref)
        until = whole_second(retain_until)
        if until < self._refs[ref.name].retain_until:
            raise ObjectError(f"{ref.name}: is kept longer already, nobody can shorten that")
        self._refs[ref.name] = replace(ref, retain_until=until)
        return self._refs[ref.name]

    async def probe(self, *, deep: bool = False) -> ProbeReport:
        """Prove what this store refuses (`ObjectStore.probe`)."""
        return await probe_port(self, "memory", self._clock(), deep=deep)

    async def close(self) -> None:
        """Do nothing; safe to call twice."""

    def _content(self, ref: ObjectRef) -> bytes:
        there = self._refs.get(ref.name)
        if there is None or there.version != ref.version or ref.name not in self.contents:
            raise ObjectDamagedError(f"{ref.name}: there is no such version")
        data = self.contents[ref.name]
        _digests(data).check(ref)
        return data


def _digests(data: bytes) -> Digests:
    return Digests(len(data), hashlib.sha256(data).digest(), hashlib.sha512(data).digest())
