"""Evaluations of a frozen encoder. One file is one evaluation; a name is a module."""
