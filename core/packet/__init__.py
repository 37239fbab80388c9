"""Packets, the pool they come from, super-frames. Uses state, machine, headers."""
