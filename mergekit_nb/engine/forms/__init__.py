"""Compiled forms of methods: a second copy of what methods/ define, with the same bits."""
