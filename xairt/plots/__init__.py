"""Figures: maps of attributions on the globe."""

from xairt.plots.maps import map, maps

__all__ = ["map", "maps"]
