"""The rehabilitation monitor: history, trends and reports of patients, and a page that shows a run.

A development tool, not a medical device.
"""
