"""How long before the end of its lease a supervisor ends its runs, so that they have ended when others start them.

A supervisor that gets no processor comes too late to that as to everything else. So it counts by how much it came late
to what it had to do at a known moment, and fences earlier by twice as much: what happened may happen again, and worse.
It gives up half of a lease for that at most: a link that is cut for less than the rest must not cost a run.
"""

LATE_FACTOR = 2.0
DECAY = 0.98  # of what was seen, with each beat: half of it is forgotten in about half a minute


class FenceMargin:
    """`least_s`: the margin of a supervisor that comes in time."""

    def __init__(self, least_s: float, lease_s: float) -> None:
        self.least_s, self.most_s = least_s, max(least_s, lease_s / 2)
        self.seconds = least_s
        self._late_s = 0.0

    def came(self, late_s: float) -> None:
        """It came to something so much later than it was to be done."""
        self._late_s = max(late_s, self._late_s * DECAY)
        self.seconds = min(self.least_s + LATE_FACTOR * self._late_s, self.most_s)
