"""The rendered control experiment: scenes and slides whose object scale is chosen and known exactly."""
