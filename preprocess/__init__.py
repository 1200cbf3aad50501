"""Videos to features: finding clips, decoding them, running a backbone over them, on any number of ranks."""
