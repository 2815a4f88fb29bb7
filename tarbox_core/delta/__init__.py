"""Texts line by line: what differs between two (diff, unified), and one stored as its difference to another (codec).

Pure functions from bytes to values. They know no layers, files or tables, and import nothing of ours but errors.
"""
