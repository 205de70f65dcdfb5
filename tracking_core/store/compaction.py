"""`python -m tracking_core.store.compaction`, as a training calls it that began before the package was upgraded."""

from tracking_core.compaction.compaction import main

if __name__ == "__main__":
    main()
