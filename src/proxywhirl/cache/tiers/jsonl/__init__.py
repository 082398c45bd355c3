"""The tier of JSON-lines shards on disk."""
