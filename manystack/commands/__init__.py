"""The commands `emu-run` and `emu`."""
