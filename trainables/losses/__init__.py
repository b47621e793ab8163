"""Losses as plain functions; each file states its normalisation."""
