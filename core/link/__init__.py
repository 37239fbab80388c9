"""Interfaces and pipes: queue, transmitter, delay line. Uses state to observe."""
