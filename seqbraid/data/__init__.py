"""Data sets: the feature store, readers and batches."""
