"""Named sweeps: `sweep run NAME`. One file is one sweep; its docstring holds command, expected time and result."""
