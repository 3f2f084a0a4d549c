"""Reports and figures that users call for."""
