"""How victims are trained where that is more than the plain recipe."""
