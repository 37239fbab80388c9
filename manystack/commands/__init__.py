"""The commands `emu-run` and `emu`: a file for each family of verbs.

Uses `control`, `engine`, `errors`, `host`, `ping`, `probes`, `record`, `report`, `results`, `text`,
`topology`, `topology/document`, `topology/link`.
"""
