"""What the image and the sound tasks of ChaosMining have in common.

A foreground with a label lies at one place of a larger background that tells nothing: the network should look at
the foreground, and an explanation should show it.

References
----------
Shi et al. (2024), "ChaosMining", arXiv:2406.12150.
"""
