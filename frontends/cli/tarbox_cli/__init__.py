"""The command line `tarbox`. Nothing is imported here: each command loads what it needs."""
