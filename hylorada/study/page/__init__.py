"""The results as one page to search."""
