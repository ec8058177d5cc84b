"""The inspection service and its commands: camera topic in, defect events out. Knows nothing of CUDA."""
