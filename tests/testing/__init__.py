"""The contract kit and the fake tracker."""
