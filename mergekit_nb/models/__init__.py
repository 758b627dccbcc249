"""Models the package can build by itself."""
