"""Readers of tables and text files: files to rows and lines."""
