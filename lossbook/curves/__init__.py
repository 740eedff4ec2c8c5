"""Curves and heat maps: series decimated for drawing, against any axis, with no spike lost."""
