"""The first floor: tensors with names, from files and modules, and what a merge leaves."""
