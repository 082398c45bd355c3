"""Whether, when and how a request is tried again."""
