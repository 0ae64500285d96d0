"""Who may do what: principals, tokens, roles, the table of methods, quotas and the record of what was done.

docs/decisions/0024-access.md says why it is as it is.
"""
