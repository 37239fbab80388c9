"""What a network needs of this machine: its devices, namespaces, permissions, and a directory of its own.

Uses `errors`.
"""
