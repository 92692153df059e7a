"""Engines that need an interpreter of their own: iNNvestigate in a worker process."""
