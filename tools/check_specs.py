"""Check the citations in the code against docs/specs.toml, and that the generated pages are up to date."""

import sys

import citations
import gen_docs


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    reader = citations.read_all()
    for error in reader.errors:
        print(error, file=sys.stderr)
    stale = gen_docs.stale(reader)
    for name in stale:
        print(f"{name} is out of date: run tools/gen_docs.py with the project's Python", file=sys.stderr)
    if reader.errors or stale:
        return 1
    count = len({citation.document for citation in reader.found})
    print(f"specs: {len(reader.found)} citations of {count} documents and rule families; pages up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
