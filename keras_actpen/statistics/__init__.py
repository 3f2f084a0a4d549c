"""What is measured of activations, and what it says."""
