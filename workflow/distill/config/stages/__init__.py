"""The slice of the config that each stage sees: a stage reruns when its slice changes, and it can read nothing else.

One module a rule file, so that a stage's code imports no section that it does not use.
"""
