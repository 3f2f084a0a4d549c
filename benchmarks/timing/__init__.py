"""How arms are timed side by side, and the ratios of their costs."""
