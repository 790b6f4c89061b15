"""Questions into answers, and what is kept of them."""
