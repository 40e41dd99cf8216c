"""Beam steps, one verb a file. They wire; the work is in plain functions."""
