"""What is handed to `fit`."""
