"""What a network tells of itself: the view while it runs, its summary, and whether the run can be relied on.

Uses `core`, `loop`, `network`, `text`, `wiring`.
"""
