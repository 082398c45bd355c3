"""The encryption keys of a store: made, sealed with, kept, changed."""
