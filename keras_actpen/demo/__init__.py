"""The demo, its sweep and the `layers` command."""
