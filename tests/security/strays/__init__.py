"""Evaluations that misbehave."""
