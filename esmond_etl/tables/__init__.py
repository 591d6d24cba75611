"""Rows of measurements in a warehouse: the same columns for every sink and source that keeps tables."""
