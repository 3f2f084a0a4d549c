"""What runs side by side: models, ways to penalize them and to watch them."""
