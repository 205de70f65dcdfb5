"""A tracker that keeps everything in memory."""
