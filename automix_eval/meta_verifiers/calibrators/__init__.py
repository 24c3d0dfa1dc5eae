"""Calibrators: signals to one calibrated confidence. One file a calibrator."""
