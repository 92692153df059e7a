"""Archived and user data: registry by name and hash, readers and writers, provenance.

Modules are imported where they are used (``from xairt.data import registry``); none of them loads
TensorFlow, and xarray is loaded only by the function that reads or writes an array.
"""
