"""What the repository's saved cases hold."""

import tarfile


def files(root):
    """Case, path in it, and bytes of every file of every saved case."""
    for archive in sorted((root / "captures").glob("*.tgz")):
        with tarfile.open(archive) as opened:
            for entry in opened:
                if entry.isfile():
                    yield archive.stem, entry.name.partition("/")[2], opened.extractfile(entry).read()


def captures(root):
    return [(case, data) for case, path, data in files(root) if path == "capture.pcapng"]
