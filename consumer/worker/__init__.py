"""Reads lines from Kafka, as one of several workers that share a topic."""
