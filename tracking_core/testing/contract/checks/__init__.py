"""The checks of the contract: one module a group, loaded by `tracking_core.testing.contract.registry.all_checks`."""
