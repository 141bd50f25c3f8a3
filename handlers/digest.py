"""Checksum of a file, or one checksum for a whole folder.

What this handler shows: `no_retry_on` for errors that another run would only
repeat, and progress over many files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from engine import Context, handler


class DigestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    algorithm: Literal["sha256", "sha512", "blake2b", "sha1", "md5"] = "sha256"
    pattern: str = "*"  # of the file names, where `path` is a folder


@handler("digest", timeout=300, no_retry_on=(FileNotFoundError, PermissionError))
def digest(request: DigestRequest, ctx: Context) -> dict[str, object]:
    """Hash `path`; a folder's digest covers the relative name and the content of every file in it.

    Two folders have the same digest exactly when they have the same files, whatever
    their times and modes. Symbolic links are not followed.
    """
    if request.path.is_dir():
        return _digest_folder(request, ctx)
    return {
        "path": str(request.path),
        "algorithm": request.algorithm,
        "digest": _digest_file(request.path, request.algorithm),
        "files": 1,
        "bytes": request.path.stat().st_size,
    }


def _digest_folder(request: DigestRequest, ctx: Context) -> dict[str, object]:
    whole = hashlib.new(request.algorithm)
    paths = list(_files(request.path, request.pattern))
    bytes_read = 0
    for number, path in enumerate(paths, 1):
        name = path.relative_to(request.path).as_posix()
        whole.update(f"{name}\0{_digest_file(path, request.algorithm)}\n".encode(errors="surrogateescape"))
        bytes_read += path.stat().st_size
        ctx.progress(number / len(paths), name)
    return {
        "path": str(request.path),
        "algorithm": request.algorithm,
        "digest": whole.hexdigest(),
        "files": len(paths),
        "bytes": bytes_read,
    }


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    """Regular files below `folder`, in an order that does not depend on the file system."""
    for path in sorted(folder.rglob(pattern)):
        if path.is_file() and not path.is_symlink():
            yield path


def _digest_file(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
