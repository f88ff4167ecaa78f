"""Networks that no library ships; they know nothing of data or training."""
