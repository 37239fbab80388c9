"""Who looks on: drops, captures, the run's proof, lateness. Uses state to packet."""
