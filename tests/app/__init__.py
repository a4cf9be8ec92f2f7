"""The composition root: settings, processes, services, the verbs from Python."""
