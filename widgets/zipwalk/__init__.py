"""The zip walk: which features of strangers become one, what excites them, and what it is worth at which cost."""
