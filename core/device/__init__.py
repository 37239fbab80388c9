"""Frames of real hosts: TAP devices and network cards. Uses state to link, never stack."""
