"""Tests of the doors for programs that were written for other libraries."""
