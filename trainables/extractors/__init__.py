"""Encoders that come trained: nothing here is searched or fit, everything here can be evaluated."""
