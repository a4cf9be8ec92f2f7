"""Adapters: every trainer's graph against its library's own answers, engines, the sampler."""
