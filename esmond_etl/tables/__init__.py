"""What rows of measurements look like in a warehouse: the same columns for every sink and source that keeps tables."""
