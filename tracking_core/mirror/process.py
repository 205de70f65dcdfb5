"""`python -m tracking_core.mirror.process`, as a training calls it that began before the package was upgraded."""

from tracking_core.mirror.server import main

if __name__ == "__main__":
    main()
