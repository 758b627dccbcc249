"""The third floor, the wing that brings networks onto common axes: zipping, permuting, repairing."""
