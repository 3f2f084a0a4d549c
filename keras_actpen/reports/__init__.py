"""What is asked for by hand."""
