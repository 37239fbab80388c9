"""What is kept of the packets of a run: captures and event files, how they are written, read and compared.

Uses `core`, `errors`, `network`, `results`, `text`, `topology`, `wiring`.
"""
