"""Importers: one file a format of public outcome tables, chosen in hydra_conf/format."""
