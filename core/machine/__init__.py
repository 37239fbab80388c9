"""What C and the processor offer: memory, atomics, random numbers, rings, shared tables. Uses state."""
