"""Making the small model: models, data, training."""
