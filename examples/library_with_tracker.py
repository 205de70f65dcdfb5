"""A library that accepts a tracker, and also works without one.

    python examples/library_with_tracker.py

Such a library depends on `tracking-core` alone. Which backends there are is up to the program that calls it.
"""

from __future__ import annotations

import numpy as np

import tracking_core as tracking
from tracking_core import Tracker
from tracking_core.testing import FakeTracker

# ---------------------------------------------------------------- the library


def kmeans(
    points: np.ndarray, clusters: int, *, steps: int = 20, seed: int = 0, tracker: Tracker | None = None
) -> np.ndarray:
    """Find cluster centres by Lloyd's algorithm.

    Args:
        points: `[N, D]` floats.
        clusters: How many centres to find.
        steps: How many times to move them.
        seed: For the choice of the first centres.
        tracker: Gets `kmeans/inertia` and `kmeans/distances`; None records nothing. It is never finished here: whoever
            opened it does that.

    Returns:
        `[clusters, D]` floats.
    """
    # The library uses its own prefix, so that its names differ from those of the program.
    tracker = tracking.scope(tracker if tracker is not None else tracking.NullTracker(), "kmeans")
    centres = np.random.default_rng(seed).choice(points, clusters, replace=False)
    for step in range(steps):
        distances = np.linalg.norm(points[:, None] - centres, axis=-1)
        nearest = distances.argmin(axis=1)
        tracker.log_scalars({"inertia": np.sum(distances.min(axis=1) ** 2)}, step=step)
        tracker.log_histogram("distances", distances.min(axis=1), step=step)
        centres = np.stack(
            [points[nearest == k].mean(axis=0) if np.any(nearest == k) else centres[k] for k in range(clusters)]
        )
    return centres


# ---------------------------------------------------------------- programs that use it


def three_heaps() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(centre, 0.3, (50, 2)) for centre in ((0, 0), (3, 0), (0, 3))])


def program_that_records() -> None:
    with tracking.start_run("clusters", config={"clusters": 3}) as run:
        centres = kmeans(three_heaps(), 3, tracker=run)
        run.log_summary({"centres": centres.tolist()})
    print(f"recorded: {run.finish()}")


def program_that_does_not() -> None:
    print(f"centres: {kmeans(three_heaps(), 3).round(2).tolist()}")


# ---------------------------------------------------------------- a test of it


def test_the_inertia_never_grows() -> None:
    fake = FakeTracker()
    kmeans(three_heaps(), 3, tracker=fake)
    inertia = [value for _, value in fake.scalars["kmeans/inertia"]]
    assert len(inertia) == 20
    assert inertia == sorted(inertia, reverse=True)
    assert fake.status == "running"  # a library never finishes what it was handed


def main() -> None:
    program_that_records()
    program_that_does_not()
    test_the_inertia_never_grows()
    print("tested")


if __name__ == "__main__":
    main()
