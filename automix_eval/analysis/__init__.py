"""Figures of finished runs and of outcomes; the engine that scores a router."""
