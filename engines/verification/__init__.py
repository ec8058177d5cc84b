"""Does the GPU path work on this machine? What ``millwatch verify-gpu`` runs, part by part, and writes down.

Every part is a function of a :class:`~engines.verification.report.Plan` that returns what it found. Each runs in a
process of its own: a device that fails in one part, and a library that crashes, hide nothing of the others.
"""
