"""Tune: any method, its hyper-parameters on sliders, its accuracy as you move them."""
