"""Data for training and for the sample capture."""
