"""Recipes that teams import, extend and run by name: one a module, called ``recipe``."""
