"""The clock, and who is next. Uses state, machine."""
