"""Data sets: read, checked, and cut into batches."""
