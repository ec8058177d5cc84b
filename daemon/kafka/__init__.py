"""Kafka clients, and what is wrong when they cannot connect."""
