"""What the parameters of a link are: as they are written, as plain values, and the ways between the two.

Uses `core`, `topology/document`.
"""
