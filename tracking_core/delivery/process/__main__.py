"""`python -m tracking_core.delivery.process`, as a training calls it that began before the package was upgraded."""

from tracking_core.delivery.process.server import main

main()
