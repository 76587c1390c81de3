"""Two processes on one folder of content: own journals, one view."""

from pathlib import Path

import pytest

from kephs.ports import BlobMissingError, StoreUnavailableError
from storage.files.blobs import FileBlobStore
from tests.support.stores import MASTER_KEY

LARGE = b"L" * 700_000


def store(tmp_path: Path, writer: str = "main") -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs", master_key=MASTER_KEY, writer=writer)


async def test_each_reads_what_the_other_wrote(tmp_path: Path) -> None:
    main, node = store(tmp_path), store(tmp_path, "n2")
    await main.start()
    await node.start()
    contents = [b"small of main", LARGE, b"small of n2", LARGE + b"2"]
    blobs = [await main.put(c) for c in contents[:2]] + [await node.put(c) for c in contents[2:]]
    assert blobs[0].place.split(":")[:2] == ["j", "1"], "the main writer's places are what they always were"
    assert blobs[2].place.split(":")[:3] == ["j", "n2", "1"]
    for reader in (main, node, store(tmp_path, "a-third")):
        assert [reader.open(blob).read(0, blob.size) for blob in blobs] == contents
        assert set(reader.places()) == {blob.place for blob in blobs}
    await node.close()
    await main.close()


async def test_a_name_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    first, second = store(tmp_path, "n2"), store(tmp_path, "n2")
    await first.start()
    with pytest.raises(StoreUnavailableError):
        await second.start()
    await first.close()
    await second.start()
    await second.close()


async def test_starting_leaves_the_others_unfinished_content_alone(tmp_path: Path) -> None:
    main, node = store(tmp_path), store(tmp_path, "n2")
    await node.start()
    spool = node.spool()
    await spool.write(LARGE)
    await main.start()
    await spool.write(LARGE)
    kept = await node.keep(spool)
    assert main.open(kept).read(0, kept.size) == LARGE * 2
    await main.close()
    await node.close()


async def test_starting_sweeps_only_its_own_left_overs(tmp_path: Path) -> None:
    for folder in ("temp", "temp/n2"):
        (tmp_path / "blobs" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "blobs" / folder / ("0" * 32)).write_bytes(b"x")
    main = store(tmp_path)
    await main.start()
    assert [p.name for p in (tmp_path / "blobs" / "temp").iterdir()] == ["n2"]
    assert list((tmp_path / "blobs" / "temp" / "n2").iterdir())
    await main.close()
    node = store(tmp_path, "n2")
    await node.start()
    assert not list((tmp_path / "blobs" / "temp" / "n2").iterdir())
    await node.close()


async def test_anybody_erases_large_content_whoever_wrote_it(tmp_path: Path) -> None:
    main, node = store(tmp_path), store(tmp_path, "n2")
    await main.start()
    await node.start()
    large, small = await node.put(LARGE), await node.put(b"small")
    await main.erase(large)
    await main.erase(small)  # its key goes with the row; the bytes are noise from then on
    with pytest.raises(BlobMissingError):
        node.open(large)
    assert set(main.places()) == {small.place}
    await main.close()
    await node.close()


@pytest.mark.parametrize("name", ["", "N2", "2n", "../x", "a/b", "a:b", "a" * 32, "n2\n", "-a"])
def test_a_name_that_could_be_a_path_or_a_number_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        store(tmp_path, name)


@pytest.mark.parametrize(
    "place", ["j:../x:1:16:{}", "j:N:1:16:{}", "j::1:16:{}", "j:n2:n3:1:16:{}", "f:n2:{}"]
)
async def test_a_place_that_is_none_opens_nothing(tmp_path: Path, place: str) -> None:
    main = store(tmp_path)
    await main.start()
    blob = await main.put(b"x")
    uid = blob.place.rpartition(":")[2]
    with pytest.raises(BlobMissingError):
        main.open(type(blob)(blob.sha256, blob.sha512, blob.size, place.format(uid), blob.key))
    await main.close()
