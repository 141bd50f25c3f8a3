"""`python -m bench.plot [FIGURES.json [PICTURE.svg]]`: draw the comparison for the README.

Reads what `python -m bench compare --output` wrote. The picture is written by hand: its colours follow the reader's
light or dark scheme, and suit both where a viewer knows of no scheme.
"""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from bench.machine import ROOT

FIGURES, PICTURE = ROOT / "bench" / "compare.json", ROOT / "docs" / "throughput.svg"
WIDTH, LABEL, BAR_MAX, ROW, BAR, TOP, BOTTOM = 760, 190, 400, 30, 18, 64, 46
STYLE = """
  text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #768390 }
  .title { font-size: 15px; font-weight: 600 }
  .small { font-size: 11.5px }
  .ours { font-weight: 600 }
  .bar { fill: #8b98a5 }
  .bar.ours { fill: #2f81f7 }
  .bar.loose { fill: none; stroke: #8b98a5; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: light) { text { fill: #424a53 } .bar.ours { fill: #0969da } }
  @media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } .bar { fill: #6e7681 } .bar.loose { stroke: #8b949e } }
"""


def main(arguments: list[str]) -> int:
    source = Path(arguments[0]) if arguments else FIGURES
    target = Path(arguments[1]) if len(arguments) > 1 else PICTURE
    target.write_text(draw(json.loads(source.read_text())))
    return 0


def draw(document: dict[str, Any]) -> str:
    """The picture of a comparison: no-op tasks a second, the fastest first."""
    engines = sorted((one for one in document["engines"].values() if "tasks_per_s" in one.get("figures", {})),
                     key=lambda one: -one["figures"]["tasks_per_s"])
    most = engines[0]["figures"]["tasks_per_s"]
    rows = [_row(at, one, most) for at, one in enumerate(engines)]
    height = TOP + ROW * len(rows) + BOTTOM
    machine, versions = document["machine"], document["versions"]
    told = (f"{machine['cpu']}, {machine['cores']} cores · Python {versions['python']} · "
            f"{versions['redis-server']} on loopback · the best of {document['rounds']} rounds in turn")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        f"<style>{STYLE}</style>",
        '<title id="title">No-op tasks a second, two workers, results kept</title>',
        '<text class="title" x="16" y="26">No-op tasks a second, two workers, results kept</text>',
        '<text class="small" x="16" y="46">Filled: one task at a time in each worker process. '
        "Dashed: many at once in one process, no isolation.</text>",
        *rows, f'<text class="small" x="16" y="{height - 16}">{escape(told)}</text>', "</svg>", ""])


def _row(at: int, engine: dict[str, Any], most: float) -> str:
    value, ours = engine["figures"]["tasks_per_s"], engine["label"] == "Ganger"
    y, width = TOP + at * ROW, max(2.0, value / most * BAR_MAX)
    kind = " ours" if ours else "" if engine["is_isolated"] else " loose"
    weight = ' class="ours"' if ours else ""
    return (f'<text{weight} x="{LABEL - 10}" y="{y + BAR - 4}" text-anchor="end">{escape(engine["label"])}</text>'
            f'<rect class="bar{kind}" x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>'
            f'<text{weight} x="{LABEL + width + 8:.1f}" y="{y + BAR - 4}">{value:,.0f}</text>')


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
