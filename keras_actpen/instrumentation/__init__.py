"""How values leave a compiled step."""
