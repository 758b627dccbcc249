"""The third floor: drives methods over tensors."""
