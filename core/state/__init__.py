"""The structures of the engine. Uses nothing."""
