"""Experiments: one question a file, each run from the command line and writing JSON records."""
