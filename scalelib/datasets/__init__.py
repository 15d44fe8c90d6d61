"""Datasets: each yields images and one row of measures per image. They know nothing of networks."""
