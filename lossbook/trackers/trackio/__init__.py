"""Trackio: the mirror and the source."""
