"""One fused kernel a method family for NVIDIA GPUs, in Triton: the CPU's bits. None of it has run on a GPU yet."""
