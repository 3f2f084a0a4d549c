"""Finding layers and attaching penalties to them."""
