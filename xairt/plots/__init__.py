"""Figures: maps of attributions on the globe, relevance by lag, distributions of scores, curves over cases."""

from xairt.plots.distributions import Curve, curves, histograms, violins
from xairt.plots.lags import relevance_by_lag
from xairt.plots.maps import map, maps

__all__ = ["Curve", "curves", "histograms", "map", "maps", "relevance_by_lag", "violins"]
