"""SMERF: images whose label follows from known objects, and whether explanations show these objects.

A character, a large box ("patch") and a small box ("switch") lie on a background of 64 x 64 pixels. A setting
says which of them decide the label: these are the primary objects that a saliency map should show, others are
secondary.

References
----------
Kim, Plumb and Talwalkar (2022), ICML, arXiv:2105.06506.
"""
