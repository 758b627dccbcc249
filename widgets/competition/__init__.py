"""PCB-Merging, step by step: state, measures, view and panel, each in its file."""
