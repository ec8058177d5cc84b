"""The OpenVINO backend: engines for the processor of a machine without a GPU."""
