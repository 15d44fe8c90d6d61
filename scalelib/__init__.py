"""scalelib."""
