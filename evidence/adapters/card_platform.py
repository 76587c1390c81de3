"""Is a library made for this kind of machine? Read from its first octets, without loading it.

The loader's own words for that ("invalid ELF header", "wrong ELF class") help nobody who holds a card.
"""

from pathlib import Path
from typing import Final

_HEAD: Final = 4096
_ELF: Final = b"\x7fELF"
_MACHINES: Final[dict[int, str]] = {
    0x03: "x86, 32 bit", 0x28: "ARM, 32 bit", 0x3E: "x86, 64 bit", 0xB7: "ARM, 64 bit",
    0xF3: "RISC-V",
}  # fmt: skip
_MACH_O: Final = {
    bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe", "cafebabf")
}


def foreign_platform(library: Path, program: Path) -> str | None:
    """Say why a library cannot be loaded by a program on this machine, None where nothing speaks against it.

    Args:
        library: an existing file.
        program: what would load it: the interpreter.

    Returns:
        The rest of a sentence that begins with the library's name.

    Raises:
        OSError: a file cannot be read.
    """
    system, machine = _kind(library)
    own_system, own_machine = _kind(program)
    if system is None:
        return "is no program library at all"
    if system != own_system:
        return f"is made for {system}, not for {own_system or 'this system'}"
    if None not in (machine, own_machine) and machine != own_machine:
        return f"is made for {_name(machine)}, not for {_name(own_machine)}"
    return None


def _kind(path: Path) -> tuple[str | None, int | None]:
    """Return the system a file is made for and, where it is known, the machine."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == _ELF and len(head) >= 20:
        return "Linux", int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
    if head[:2] == b"MZ":
        return "Windows", None
    if head[:4] in _MACH_O:
        return "macOS", None
    return None, None


def _name(machine: int | None) -> str:
    return _MACHINES.get(machine or 0, f"machine {machine}")
