"""Figures from tables. Each module draws for one notebook; none of them computes a result."""
