"""Whether the penalties do what their papers say, on real digits."""
