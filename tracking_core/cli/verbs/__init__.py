"""The verbs that read a run store, and those that remove from it: a module for each.

A module is imported when its verb is called, or listed. At its top it needs click alone: what the verb does with its
arguments is imported when it runs.
"""
