"""Figures: maps of attributions on the globe, distributions of scores, curves over cases."""

from xairt.plots.distributions import Curve, curves, histograms, violins
from xairt.plots.maps import map, maps

__all__ = ["Curve", "curves", "histograms", "map", "maps", "violins"]
