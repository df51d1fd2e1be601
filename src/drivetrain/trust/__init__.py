"""Statistics: calibration, intervals, deferral, out-of-domain scores. No I/O."""
