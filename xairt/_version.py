"""The version of xairt, kept apart so that packaging reads it without imports."""

__version__ = "0.1.0"
