"""The ground floor: pure functions on tensors. No names, no files, no models; any device; nothing is written."""
