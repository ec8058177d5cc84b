"""Comparisons that the service itself does not need: peers, a real Kafka, memory over time."""
