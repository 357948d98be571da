"""Queries, a workbook and alert rules for Application Insights, and the command that puts the last two together."""
