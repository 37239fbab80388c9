"""The worker that gives nodes their turns, and its loop on the host's clock. Uses all but face."""
