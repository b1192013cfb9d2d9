"""How good: figures that a stranger can repeat."""
