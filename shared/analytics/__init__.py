"""Pure arithmetic of rollups: sketches, intervals, periods and what-if costs. No I/O, no clock, no randomness."""
