"""How adapters are found and wrapped; the TensorBoard and W&B adapters and the example of a third-party one."""
