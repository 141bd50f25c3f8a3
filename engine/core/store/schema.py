"""Which format the data in Redis have, and whether this version of the engine may work on them.

Redis keeps "VERSION OLDEST": the format, and the oldest format that an engine must know to read it without harm. The
first engine writes it; a newer one that changes the format raises it. Data without it are of the first format.
"""

VERSION = 1  # what this engine writes
READS_FROM = 1  # the oldest format that it still reads
OURS = f"{VERSION} {VERSION}"  # what it leaves in Redis


def parsed(stored: bytes | None) -> tuple[int, int]:
    """The format, and the oldest that an engine must know. What makes no sense was written by somebody else."""
    words = (stored or b"").split()
    if len(words) == 2 and all(word.isdigit() and len(word) <= 6 for word in words):
        return int(words[0]), int(words[1])
    return 1, 1


def refusal(stored: bytes | None) -> str | None:
    """Why this engine must not touch these data, in words; None if it may."""
    version, oldest = parsed(stored)
    if oldest > VERSION:
        return (f"the data in this Redis have format {version}, written by a newer version of Ganger, and this one "
                f"knows formats up to {VERSION}: install that version here, or use another Redis or queue_prefix")
    if version < READS_FROM:
        return (f"the data in this Redis have format {version}, and this version of Ganger reads formats from "
                f"{READS_FROM} on: run the version in between first, or use another Redis or queue_prefix")
    return None
