"""Event files, tags and pages, and reading logs back."""
