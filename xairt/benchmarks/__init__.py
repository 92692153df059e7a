"""Benchmarks whose right answer is known; `xairt.runs` finds them by their entry points."""
