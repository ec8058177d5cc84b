"""Everything that makes a model: generated strips, datasets, training and export. Never imported by the daemon."""
