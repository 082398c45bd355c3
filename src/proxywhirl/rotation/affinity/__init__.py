"""Which proxy a session keeps."""
