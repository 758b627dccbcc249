"""The notebooks, so that an installed package has something to open, and what checks their exercises."""
