"""A small software renderer for sets in the layout of 3DIEBench: scene, meshes, generated solids, whole sets."""
