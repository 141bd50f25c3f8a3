"""Search text files with a regular expression, and count their words.

What these handlers show: plain dict payloads, and what a soft timeout is good
for. A search that runs out of time returns what it has found so far and says
that it is not complete. A pattern that backtracks for ever, such as `(a+)+$`,
never comes back to Python, where the soft timeout could reach it: that run
ends at its hard `timeout`, with its worker.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import Context, SoftTimeout, handler

WORD = re.compile(r"[^\W\d_]{2,}")
MATCH_TEXT_MAX = 200


@handler("search_text", timeout=120, soft_timeout=100, no_retry_on=(KeyError, re.error, NotADirectoryError))
def search_text(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Lines below the folder `root` that match the regular expression `pattern`.

    Optional: `glob` of the file names ("*.py"), `matches_max` to return (100).
    Returns `matches` of path, line and text; how many lines matched in all; and
    `complete`, which is false when the soft timeout came first.
    """
    pattern, matches_max = re.compile(payload["pattern"]), int(payload.get("matches_max", 100))
    paths = _paths(payload["root"], payload.get("glob", "*.py"))
    matches: list[dict[str, Any]] = []
    found = searched = 0
    complete = True
    try:
        for path in paths:
            for line, text in _matching_lines(path, pattern):
                found += 1
                if len(matches) < matches_max:
                    matches.append({"path": str(path), "line": line, "text": text[:MATCH_TEXT_MAX]})
            searched += 1
            ctx.progress(searched / len(paths), f"{found} lines in {searched} files")
    except SoftTimeout:
        complete = False
        ctx.logger.warning("out of time after %d of %d files", searched, len(paths))
    return {"matches": matches, "found": found, "files": searched, "complete": complete}


@handler("word_statistics", timeout=120, no_retry_on=(KeyError, NotADirectoryError))
def word_statistics(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Count the words of the text files below the folder `root`, case ignored.

    Optional: `glob` of the file names ("*.txt"), `top` words to return (20).
    """
    paths = _paths(payload["root"], payload.get("glob", "*.txt"))
    words: Counter[str] = Counter()
    for number, path in enumerate(paths, 1):
        words.update(WORD.findall(path.read_text(encoding="utf-8", errors="replace").lower()))
        ctx.progress(number / len(paths), path.name)
    return {
        "files": len(paths),
        "words": words.total(),
        "different_words": len(words),
        "commonest": dict(words.most_common(int(payload.get("top", 20)))),
        "longest": max(words, key=lambda word: (len(word), word), default=None),
    }


def _paths(root: str, glob: str) -> list[Path]:
    if not Path(root).is_dir():
        raise NotADirectoryError(f"root {root!r} is not a folder")
    return sorted(path for path in Path(root).rglob(glob) if path.is_file())


def _matching_lines(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if pattern.search(line):
                yield number, line.rstrip("\n")
