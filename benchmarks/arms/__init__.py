"""What runs side by side: models, ways to penalise them and to watch them."""
