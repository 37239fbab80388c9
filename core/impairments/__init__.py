"""What a wire does to a packet, one impairment a room; `core/shaper.pxd` applies them in order."""
