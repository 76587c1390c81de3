"""One instance with its people, its TEST PKI and a warm process for all fault tests of a session."""

from collections.abc import Iterator

import pytest

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
