"""Routers that are rules on confidences: bins, cells, and the search over chains."""
