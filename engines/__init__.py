"""Models, engines and the cascade: images in, inspections out. Knows nothing of streams."""
