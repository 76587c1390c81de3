"""The archive's benchmarks measure something and leave nothing behind."""

import pytest

from kephs.bench.archive_bench import archive_put, archive_s3
from kephs.bench.site import open_site
from kephs.system import SystemClock


@pytest.mark.slow
async def test_both_stores_are_measured_beside_their_peers() -> None:
    with open_site(0.4, SystemClock().now) as site:
        figures = [*await archive_put(site), *await archive_s3(site)]
        assert [figure.name for figure in figures] == ["archive-put", "archive-put-small", "archive-s3"]
        assert all(figure.value > 0 and figure.ratio for figure in figures)
        assert list(site.folder.iterdir()) == []
