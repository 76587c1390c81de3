"""Instances with their people, their TEST PKI and a warm process for all fault tests that can share them."""

from collections.abc import Iterator

import pytest

from tests.faults.pair import Pair
from tests.faults.told import Told
from tests.support.crash import Provider


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider that nobody else uses."""
    made = Provider(tmp_path_factory.mktemp("faults") / "provider", ("ayse", "mehmet", "fatma", "zeynep"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def told() -> Told:
    """What the provider's clients were told so far."""
    return Told()


_MANY = 150  # letters: with more on the books each fsck takes longer than making a new pair


class _Pairs:
    """A pair for test after test; after a failure, or many letters, the next one gets a new pair."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._made: Pair | None = None

    def get(self) -> Pair:
        """Return a pair that is quiet and whose books agree."""
        if self._made is None or not self._made.agreed or len(self._made.told.letters) > _MANY:
            self.close()
            self._made = Pair(self._factory.mktemp("faults") / "pair")
        self._made.agreed = False
        return self._made

    def close(self) -> None:
        """End the processes."""
        if self._made is not None:
            self._made.close()


@pytest.fixture(scope="session")
def _pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Pairs]:
    pairs = _Pairs(tmp_path_factory)
    yield pairs
    pairs.close()


@pytest.fixture
def pair(_pairs: _Pairs) -> Pair:
    """Two providers, nothing under way between them."""
    return _pairs.get()
