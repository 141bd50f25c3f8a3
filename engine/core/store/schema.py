"""Which format the data in Redis have, and whether this version of the engine may work on them.

Redis keeps "VERSION OLDEST": the format, and the oldest format that an engine must know to read it without harm. The
first engine writes it; a newer engine that changes the format raises it, if it still reads what is there. An empty
Redis has no such key, and gets our format.

Format 1 was that of the versions before the keys had their present names; the first of them kept no number.
"""

VERSION = 2  # what this engine writes
READS_FROM = 2  # the oldest format that it still reads
OURS = f"{VERSION} {VERSION}"  # what it leaves in Redis
FORMAT_1, FORMAT_1_KEY = b"1 1", "life"  # where there is no number, this key says that the data have format 1


def parsed(stored: bytes | None) -> tuple[int, int]:
    """The format, and the oldest that an engine must know. Text that makes no sense was written by somebody else."""
    words = (stored or b"").split()
    if len(words) == 2 and all(word.isdigit() and len(word) <= 6 for word in words):
        return int(words[0]), int(words[1])
    return VERSION, VERSION


def refusal(stored: bytes | None) -> str | None:
    """Why this engine must not touch these data, in words; None if it may."""
    version, oldest = parsed(stored)
    if oldest > VERSION:
        return (f"the data in this Redis have format {version}, written by a newer version of Ganger, and this one "
                f"knows formats up to {VERSION}: install that version here, or use another Redis or queue_prefix")
    if version < READS_FROM:
        return (f"the data in this Redis have format {version}, written by an older version of Ganger, and this one "
                f"reads formats from {READS_FROM} on: let the older version finish its tasks and start with an empty "
                "Redis, or use another Redis or queue_prefix")
    return None
