"""IGC: attribution of a whole data set, on localised statistics of images with a natural spectrum.

References
----------
Lelièvre and Chen (2024), arXiv:2404.13910.
"""
