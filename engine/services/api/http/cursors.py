"""Cursors of pages: opaque text for the caller, a position for the engine."""

import base64
import binascii

from engine.errors import InvalidOption


def shown(cursor: str | None) -> str | None:
    """Return a position as text for the caller; None after the last page."""
    return None if cursor is None else base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")


def read(text: str | None) -> str | None:
    """Return the position that a caller has given. Raises `InvalidOption` for text that is no cursor."""
    if text is None:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidOption("this is not the cursor of a page", field="cursor", value=text[:80],
                            limit="what the page before gave") from None
