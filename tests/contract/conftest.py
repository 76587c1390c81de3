"""The stores under contract, each in turn."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kephs.ports import Store
from tests.support.stores import (
    STORES,
    new_database,
    open_store,
)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> AsyncIterator[Store]:
    async with open_store(request.param, tmp_path, template) as opened:
        yield opened
