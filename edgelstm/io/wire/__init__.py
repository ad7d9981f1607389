"""Bytes of sensors as rows of numbers: lines of CSV and JSON, packed structs."""
