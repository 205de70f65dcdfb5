"""Arrays of JAX: what is reduced and packed on their device."""
