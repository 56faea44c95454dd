"""Palimpsest's service: everything that knows tenants. Never imports torch, model or workers outside its composition roots."""
