"""Practical Byzantine fault tolerance, block by block; the theory stands in engine.py."""
