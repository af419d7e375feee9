"""Recipes: the runs behind a table, and what reproduces them."""
