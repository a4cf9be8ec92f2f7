"""The composition root: settings are read here, adapters and the store are wired into ports here, nowhere else.

`system` holds `App`, the verbs that the command line and Python share. Each other module but `spawn`, `settings` and
`ports` is the entry of one kind of process and wires just what that kind needs.
"""
