"""Figures with matplotlib: curves as PNG, SVG and PDF. Knows nothing of language models."""
