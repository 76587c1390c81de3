"""The peers of the register's file as it is now: a mapping that follows the file while the process runs."""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from directory.adapters.register_folder import RegisterFolder
from directory.providers import Peer


class LivePeers(Mapping[str, Peer]):
    """`directory.providers.ProviderRegister.peers` over a register's folder."""

    def __init__(self, folder: RegisterFolder) -> None:
        self._folder = folder

    def __getitem__(self, domain: str) -> Peer:
        return self._folder.current().register.peers[domain]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._folder.current().register.peers))

    def values(self) -> ValuesView[Peer]:
        """Return the peers of one moment."""
        return dict(self._folder.current().register.peers).values()

    def items(self) -> ItemsView[str, Peer]:
        """Return domains and peers of one moment."""
        return dict(self._folder.current().register.peers).items()

    def __len__(self) -> int:
        return len(self._folder.current().register.peers)
