"""The TensorRT backend: engines for an NVIDIA GPU, run through PyCUDA."""
