"""Files, JSON, tensors on disk and helper processes; stands on config and errors alone."""
