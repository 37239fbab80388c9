"""The bytes of each protocol's header, and checksums. Uses state, machine."""
